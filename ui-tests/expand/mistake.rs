struct Server<T> {
    #[shutdown(prioirty = 1)]
    token: T,
    #[shutdown(state)]
    state: ShutdownState,
}
