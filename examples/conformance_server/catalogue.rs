//! The lists: what is in `catalogue.json`, and what comes and goes.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use rmcp::model::{Prompt, Resource, ResourceTemplate, Tool};
use serde::Deserialize;

use crate::shared::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    resources: Vec<Resource>,
    templates: Vec<ResourceTemplate>,
    passing_tool: Tool,
    passing_prompt: Prompt,
}

static CATALOGUE: LazyLock<Option<Catalogue>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("catalogue.json"))
        .inspect_err(|error| eprintln!("catalogue.json does not fit: {error}"))
        .ok()
});

fn listed<T>(list: impl FnOnce(&Catalogue) -> Vec<T>) -> Vec<T> {
    CATALOGUE.as_ref().map(list).unwrap_or_default()
}

/// The tools of this moment.
pub(crate) fn tools(shared: &Shared) -> Vec<Tool> {
    listed(|catalogue| {
        let passing = shared.more_tools.load(Ordering::SeqCst).then(|| catalogue.passing_tool.clone());
        catalogue.tools.iter().cloned().chain(passing).collect()
    })
}

/// The prompts of this moment.
pub(crate) fn prompts(shared: &Shared) -> Vec<Prompt> {
    listed(|catalogue| {
        let passing = shared.more_prompts.load(Ordering::SeqCst).then(|| catalogue.passing_prompt.clone());
        catalogue.prompts.iter().cloned().chain(passing).collect()
    })
}

/// The resources, which are always the same.
pub(crate) fn resources() -> Vec<Resource> {
    listed(|catalogue| catalogue.resources.clone())
}

/// The templates, which are always the same.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    listed(|catalogue| catalogue.templates.clone())
}
