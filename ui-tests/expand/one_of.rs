enum Either {
    Live {
        #[shutdown]
        task: JoinHandle<()>,
        name: String,
    },
    Gone,
}
