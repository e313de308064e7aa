//! The serialized form of reports. Durations are whole milliseconds. An error is its text, with the texts of its
//! causes.

use std::error::Error;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Body, Step};
use crate::reason::Chain;
use crate::text::millis;

pub(super) fn body<S: Serializer>(body: &Arc<Body>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut out = serializer.serialize_struct("Report", 9)?;
    let report = super::Report {
        body: Arc::clone(body),
    };
    out.serialize_field("component", &body.component)?;
    out.serialize_field("reason", &body.reason)?;
    out.serialize_field("clean", &report.is_clean())?;
    out.serialize_field("forced", &body.forced.map(|force| force.to_string()))?;
    out.serialize_field("hurried", &body.hurried)?;
    out.serialize_field("exit_code", &report.exit_code())?;
    out.serialize_field("elapsed_ms", &millis(body.elapsed))?;
    out.serialize_field("tasks_left", &body.tasks_left)?;
    out.serialize_field("steps", &body.steps)?;
    out.end()
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Step", 10)?;
        out.serialize_field("name", &self.name)?;
        out.serialize_field("priority", &self.priority)?;
        out.serialize_field("started_ms", &millis(self.started()))?;
        out.serialize_field("elapsed_ms", &millis(self.elapsed()))?;
        out.serialize_field("budget_ms", &millis(self.budget()))?;
        out.serialize_field("best_effort", &self.best_effort)?;
        out.serialize_field("clean", &self.is_clean())?;
        out.serialize_field("outcome", &self.outcome)?;
        out.serialize_field("why", &self.why)?;
        out.serialize_field("steps", &self.steps)?;
        out.end()
    }
}

pub(super) fn error<S: Serializer>(
    error: &Arc<dyn Error + Send + Sync>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut out = serializer.serialize_struct("Failed", 1)?;
    out.serialize_field("error", &Chain(&**error).to_string())?;
    out.end()
}

pub(super) fn message<S: Serializer>(message: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut out = serializer.serialize_struct("Panicked", 1)?;
    out.serialize_field("message", message)?;
    out.end()
}
