#[shutdown(part)]
struct Files {
    #[shutdown(with = Log::sync, blocking)]
    log: Option<Log>,
    #[shutdown(with = |file| file.close(), take, blocking)]
    file: Option<File>,
}
