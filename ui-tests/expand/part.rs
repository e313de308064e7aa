#[shutdown(part)]
struct Part<T>(#[shutdown] T, u8);
