//! When an agent runs by itself, and where its results go.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Millis;

/// When the agent runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// `cron`, `interval` or `manual`.
    #[serde(rename = "type")]
    pub kind: ScheduleType,
    /// Five fields: minute, hour, day of month, month, day of week. With `type: cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The zone of the cron fields, like `Europe/Berlin`; UTC without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The time between starts. With `type: interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Millis>,
    /// Whether the schedule is in force.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// What starts a scheduled agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleType {
    /// The calendar.
    Cron,
    /// A fixed time since the last start.
    Interval,
    /// Somebody.
    Manual,
}

/// Where results are sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// The destinations, each for itself.
    pub destinations: Vec<Destination>,
}

/// One place results are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// A name, for the record.
    pub name: String,
    /// `webhook` or `email`.
    #[serde(rename = "type")]
    pub kind: DestinationType,
    /// When it is sent.
    #[serde(default)]
    pub condition: DeliveryCondition,
    /// The address. With `type: webhook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers. With `type: webhook`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The receivers. With `type: email`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// The subject. With `type: email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// How a result is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DestinationType {
    /// An HTTP POST.
    Webhook,
    /// A mail.
    Email,
}

/// When a result is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryCondition {
    /// When the execution completed.
    #[default]
    OnSuccess,
    /// When it failed.
    OnFailure,
    /// In both cases.
    Always,
}
