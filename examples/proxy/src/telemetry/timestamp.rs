//! Times as the traffic tape writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;

/// Writes a duration as a number of milliseconds, to the microsecond.
///
/// # Errors
///
/// Those of the serializer.
pub fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = duration.subsec_micros();
    let seconds = duration.as_secs_f64().trunc();
    serializer.serialize_f64(seconds.mul_add(1000.0, f64::from(micros) / 1000.0))
}

/// Writes a time as RFC 3339 does, in UTC, to the millisecond.
///
/// # Errors
///
/// Those of the serializer.
pub fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // A clock that is set before 1970 says nothing anyway.
    let time = (*time).max(UNIX_EPOCH);
    serializer.collect_str(&humantime::format_rfc3339_millis(time))
}

/// Durations as whole milliseconds.
pub mod whole_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a duration.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        millis.serialize(serializer)
    }

    /// Reads a duration.
    ///
    /// # Errors
    ///
    /// When it is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Times that may be missing, as milliseconds since 1970.
pub mod unix_millis {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a time. One before 1970 becomes that.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = time.map(|time| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        millis.serialize(serializer)
    }

    /// Reads a time. One that the system cannot have is none.
    ///
    /// # Errors
    ///
    /// When it is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct At(#[serde(serialize_with = "rfc3339")] SystemTime);

    #[test]
    fn a_time_is_written_to_the_millisecond() {
        let time = UNIX_EPOCH + Duration::from_millis(951_827_696_789);
        let text = |time| serde_json::to_value(At(time)).unwrap();
        assert_eq!(text(time), "2000-02-29T12:34:56.789Z");
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(text(before), "1970-01-01T00:00:00.000Z");
    }
}
