//! The error that a configuration cannot be loaded.

use std::fmt;
use std::path::PathBuf;

/// The reason why a configuration file cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable(PathBuf, std::io::Error),
    /// The content of the file is invalid. The text contains the line and the reason.
    Invalid(PathBuf, String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(
                    f,
                    "cannot read the configuration {}: {error}",
                    path.display()
                )
            }
            Self::Invalid(path, text) => {
                write!(
                    f,
                    "the configuration {} is not valid: {text}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}
