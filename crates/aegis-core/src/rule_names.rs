//! The names of rules that an operator can switch off; each switch is recorded by these names.

/// Untrusted and sensitive bytes on an execution that sends something out.
pub const UNTRUSTED_SENSITIVE_EGRESS: &str = "untrusted-sensitive-egress";

/// The rules on labels, by `spec.governance.label_rules`.
pub const LABEL_RULES: [&str; 1] = [UNTRUSTED_SENSITIVE_EGRESS];

/// The rules for personal data, in the order they are applied; by `spec.governance.redaction.personal_data_rules`.
pub const PERSONAL_DATA_RULES: [&str; 12] = [
    "email",
    "iban",
    "credit_card",
    "es_dni",
    "it_codice_fiscale",
    "fr_nir",
    "de_steuer_id",
    "br_cpf",
    "pl_pesel",
    "ipv6",
    "ipv4",
    "phone",
];
