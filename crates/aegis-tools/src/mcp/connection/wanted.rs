//! The requests that a server may ask something for before it answers.

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, GetPromptRequest, GetPromptRequestParams,
    InputResponses, ReadResourceRequest, ReadResourceRequestParams,
};

/// Such a request.
pub(in crate::mcp) enum Wanted {
    /// A tool is called.
    Call(CallToolRequestParams),
    /// A prompt is got.
    Prompt(GetPromptRequestParams),
    /// A resource is read.
    Resource(ReadResourceRequestParams),
}

impl Wanted {
    /// Puts in what answers the server's questions, and what it wants back with that.
    pub(super) fn answer(&mut self, responses: Option<InputResponses>, state: Option<String>) {
        let (input_responses, request_state) = match self {
            Self::Call(params) => (&mut params.input_responses, &mut params.request_state),
            Self::Prompt(params) => (&mut params.input_responses, &mut params.request_state),
            Self::Resource(params) => (&mut params.input_responses, &mut params.request_state),
        };
        (*input_responses, *request_state) = (responses, state);
    }

    /// As it is sent.
    pub(super) fn request(&self) -> ClientRequest {
        match self {
            Self::Call(params) => ClientRequest::CallToolRequest(CallToolRequest::new(params.clone())),
            Self::Prompt(params) => ClientRequest::GetPromptRequest(GetPromptRequest::new(params.clone())),
            Self::Resource(params) => {
                ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params.clone()))
            }
        }
    }
}
