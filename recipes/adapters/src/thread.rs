//! Threads of std.

use std::any::Any;
use std::error::Error;
use std::thread::JoinHandle;

/// Waits until a thread has ended. Blocks: write `take, blocking, with = thread::join`.
///
/// # Errors
/// The thread panicked; the error is its message.
pub fn join<T>(thread: JoinHandle<T>) -> Result<(), Box<dyn Error + Send + Sync>> {
    match thread.join() {
        Ok(_) => Ok(()),
        Err(panic) => Err(message(&*panic).into()),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the thread panicked: {}", text.unwrap_or("with no text"))
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn the_panic_of_a_thread_is_an_error_with_its_message() {
        assert!(join(std::thread::spawn(|| 1)).is_ok());
        let error = join(std::thread::spawn(|| panic!("no {}", "disk"))).unwrap_err();
        assert_eq!(error.to_string(), "the thread panicked: no disk");
    }
}
