//! Secrets.

use reqwest::Method;

use super::{CallError, Client, encode};
use crate::{Page, Secret, SetSecret};

impl Client {
    /// `GET /v1/secrets`: names and versions.
    pub async fn secrets(&self) -> Result<Page<Secret>, CallError> {
        self.get("/v1/secrets", &[]).await
    }

    /// `PUT /v1/secrets/{name}`
    pub async fn set_secret(&self, name: &str, body: &SetSecret) -> Result<Secret, CallError> {
        let path = format!("/v1/secrets/{}", encode(name));
        self.json(self.request(Method::PUT, &path, &[]).json(body)).await
    }

    /// `DELETE /v1/secrets/{name}`
    pub async fn delete_secret(&self, name: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/secrets/{}", encode(name)), &[]).await
    }
}
