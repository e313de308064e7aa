//! Joins threads of the standard library.

use std::any::Any;
use std::error::Error;
use std::thread::JoinHandle;

/// Waits until a thread has ended. The call blocks, so the key must be `take, blocking, with = thread::join`.
///
/// # Errors
/// An error with the message of the panic if the thread panicked.
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
