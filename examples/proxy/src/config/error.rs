//! Why a configuration cannot be used.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration file could not be used.
#[derive(Debug)]
pub enum ConfigError {
    /// It could not be read.
    Unreadable(PathBuf, std::io::Error),
    /// It was read, and is wrong at the line that the text names.
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
