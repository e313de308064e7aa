#[shutdown(timeout = "25s")]
struct Server<T: Component> {
    #[shutdown(priority = 0)]
    token: CancellationToken,
    #[shutdown(priority = 10, timeout = "3s", with = Tape::flush, abort = |tape| tape.close(), required)]
    tape: Option<Arc<Tape>>,
    #[shutdown(after = tape, timeout = self.config.grace, at_most = "2s", with = |pool, cx| pool.close(&self.config, cx))]
    pool: Arc<Pool>,
    #[shutdown(priority = 20)]
    inner: T,
    config: Config,
    list: Vec<T>,
    #[shutdown(skip)]
    other: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}
