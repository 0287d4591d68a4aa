//! Tool search: an in-memory BM25F index over names, descriptions and parameters, and the compact answer.
//!
//! Pure and deterministic: the same catalogue and query give the same answer. An [`Index`] is built anew when the
//! catalogue changes and is then only read.

mod build;
mod exact;
mod index;
pub mod lines;
mod parameters;
mod query;
mod rank;
mod signature;
mod synonyms;
mod text;
mod thesaurus;
mod vocabulary;
mod weights;

use serde_json::Value;

pub use index::Index;
pub use signature::signature;

use build::Builder;
use weights::Weights;

/// What a tool is found by.
#[derive(Debug, Clone, Copy)]
pub struct ToolText<'a> {
    /// Name of its server.
    pub server: &'a str,
    /// The server's title and instructions, as far as known.
    pub server_text: &'a str,
    pub name: &'a str,
    pub title: Option<&'a str>,
    pub description: &'a str,
    /// Names and descriptions of its parameters are read from here.
    pub input_schema: &'a Value,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions<'a> {
    /// Hits to return at most.
    pub limit: usize,
    /// Only tools of this server.
    pub server: Option<&'a str>,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Best first; equals in the order of server and name.
    pub hits: Vec<Hit>,
    /// How many visible tools match well enough to be returned, counted up to [`MOST_MATCHES`].
    pub matches: usize,
}

/// One tool that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which it was of the tools given to [`Index::build`], from 0; those put beside them go on from there.
    pub tool: u32,
    /// Comparable within one answer only.
    pub score: f32,
}

/// Matches are counted to here and no further.
pub const MOST_MATCHES: usize = 100;

impl Index {
    /// Reads the texts of all tools.
    #[must_use]
    pub fn build<'a>(tools: impl IntoIterator<Item = ToolText<'a>>) -> Self {
        Self::gather(tools, 0, None, Weights::STANDARD)
    }

    /// Puts tools beside those that are there: they are found with them, by the same measure, and change nothing of how
    /// the others are found. Of equals they come last.
    #[must_use]
    pub fn beside<'a>(mut self, tools: impl IntoIterator<Item = ToolText<'a>>) -> Self {
        let first = u32::try_from(self.tools.len()).unwrap_or(u32::MAX);
        self.beside = Some(Box::new(Self::gather(tools, first, Some(&self), self.weights)));
        self
    }

    /// Numbers the tools from `first`. Where there is a measure, words say as much as they do there.
    fn gather<'a>(
        tools: impl IntoIterator<Item = ToolText<'a>>,
        first: u32,
        measure: Option<&Self>,
        weights: Weights,
    ) -> Self {
        let mut given: Vec<(u32, ToolText<'a>)> = (first..).zip(tools).collect();
        given.sort_by_key(|(_, tool)| (tool.server, tool.name));
        let mut servers: Vec<Box<str>> = given.iter().map(|(_, tool)| tool.server.into()).collect();
        servers.dedup();
        let mut builder = Builder::new();
        for (ordinal, tool) in &given {
            let server = servers.partition_point(|known| **known < *tool.server);
            builder.add(*ordinal, u32::try_from(server).unwrap_or(u32::MAX), tool);
        }
        builder.finish(servers, measure.filter(|measure| !measure.is_empty()), weights)
    }
}

#[cfg(test)]
mod tests;
