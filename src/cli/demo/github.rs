//! A made-up code host: repositories to read, issues to write.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::schemars::JsonSchema;
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};

/// Repositories given where `limit` is absent, and at most.
const DEFAULT_LIMIT: usize = 30;
const MAX_LIMIT: usize = 100;
/// Issues kept, so that a loop does not fill the memory.
const MAX_ISSUES: usize = 1000;
/// Issues that a repository is described with.
const NEWEST: usize = 5;
const MAX_TITLE_CHARS: usize = 256;
const MAX_BODY_BYTES: usize = 64 * 1024;

/// One made-up repository.
struct Repository {
    name: &'static str,
    description: &'static str,
    visibility: &'static str,
    language: &'static str,
    stars: u32,
    updated_at: &'static str,
}

const REPOSITORIES: &[Repository] = &[
    Repository {
        name: "demo/project-a",
        description: "The public website and its content",
        visibility: "private",
        language: "TypeScript",
        stars: 12,
        updated_at: "2024-01-15T14:32:00Z",
    },
    Repository {
        name: "demo/project-b",
        description: "Billing: invoices, payments and refunds",
        visibility: "private",
        language: "Rust",
        stars: 31,
        updated_at: "2024-01-12T09:05:00Z",
    },
    Repository {
        name: "demo/docs",
        description: "Handbook and API documentation",
        visibility: "public",
        language: "Markdown",
        stars: 208,
        updated_at: "2024-01-10T17:48:00Z",
    },
    Repository {
        name: "demo/infrastructure",
        description: "Terraform modules and deployment pipelines",
        visibility: "private",
        language: "HCL",
        stars: 4,
        updated_at: "2023-12-21T11:20:00Z",
    },
    Repository {
        name: "demo/mobile-app",
        description: "Customer app for iOS and Android",
        visibility: "private",
        language: "Kotlin",
        stars: 17,
        updated_at: "2023-12-19T08:00:00Z",
    },
    Repository {
        name: "demo/design-system",
        description: "Shared components, colours and icons",
        visibility: "public",
        language: "CSS",
        stars: 95,
        updated_at: "2023-11-30T15:15:00Z",
    },
];

/// Which release of the server to play. The second one breaks what the first promised, as upgrades do: `list_repos`
/// leaves the owner out of the names, which `get_repo` then does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    First,
    Second,
}

/// Which repositories to list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct ListRepos {
    /// How many repositories to give at most, most recently updated first; 30 unless set.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

/// Which repository to describe.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct GetRepo {
    /// The full name of the repository, as `list_repos` gives it: `demo/project-a`.
    repo: String,
}

/// An issue to open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct CreateIssue {
    /// The full name of the repository, as `list_repos` gives it: `demo/project-a`.
    repo: String,
    /// What the issue is about, in one line.
    #[schemars(length(min = 1, max = 256))]
    title: String,
    /// The details, in Markdown.
    #[serde(default)]
    body: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Repositories {
    repositories: Vec<Summary>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Summary {
    /// Owner and name.
    name: &'static str,
    /// `public` or `private`.
    visibility: &'static str,
    /// Time of the last push, RFC 3339.
    updated_at: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Details {
    name: &'static str,
    description: &'static str,
    visibility: &'static str,
    language: &'static str,
    default_branch: &'static str,
    stars: u32,
    open_issues: usize,
    /// The last few issues, newest first.
    newest_issues: Vec<Issue>,
    updated_at: &'static str,
    url: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Created {
    /// The number of the issue in its repository.
    number: usize,
    url: String,
    repo: &'static str,
    title: String,
    state: &'static str,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Issue {
    #[serde(skip)]
    repo: &'static str,
    number: usize,
    title: String,
    body: Option<String>,
}

/// The server: the repositories are fixed, the issues live as long as it does.
#[derive(Debug)]
pub(super) struct Github {
    release: Release,
    issues: Mutex<Vec<Issue>>,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Github {
    pub(super) fn new(release: Release) -> Self {
        Self { release, issues: Mutex::default(), tool_router: Self::tool_router() }
    }

    fn issues(&self) -> MutexGuard<'_, Vec<Issue>> {
        self.issues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[tool(
        title = "List repositories",
        description = "List the repositories that you can see, most recently updated first: name, visibility and time of the last update.",
        annotations(
            title = "List repositories",
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn list_repos(&self, Parameters(wanted): Parameters<ListRepos>) -> Json<Repositories> {
        let limit = wanted.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT));
        let name = |repo: &Repository| match self.release {
            Release::First => repo.name,
            Release::Second => repo.name.split_once('/').map_or(repo.name, |(_, name)| name),
        };
        let summary =
            |repo: &Repository| Summary { name: name(repo), visibility: repo.visibility, updated_at: repo.updated_at };
        Json(Repositories { repositories: REPOSITORIES.iter().take(limit.min(MAX_LIMIT)).map(summary).collect() })
    }

    #[tool(
        title = "Get a repository",
        description = "Describe one repository: what it is for, its language, default branch, stars and open issues.",
        annotations(
            title = "Get a repository",
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn get_repo(&self, Parameters(wanted): Parameters<GetRepo>) -> Result<Json<Details>, String> {
        let repo = find(&wanted.repo)?;
        let issues = self.issues();
        let ours = issues.iter().rev().filter(|issue| issue.repo == repo.name);
        Ok(Json(Details {
            name: repo.name,
            description: repo.description,
            visibility: repo.visibility,
            language: repo.language,
            default_branch: "main",
            stars: repo.stars,
            open_issues: ours.clone().count(),
            newest_issues: ours.take(NEWEST).cloned().collect(),
            updated_at: repo.updated_at,
            url: url(repo.name),
        }))
    }

    #[tool(
        title = "Create an issue",
        description = "Open an issue in a repository. Gives its number and its URL. Calling it twice opens two issues.",
        annotations(
            title = "Create an issue",
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    fn create_issue(&self, Parameters(wanted): Parameters<CreateIssue>) -> Result<Json<Created>, String> {
        let repo = find(&wanted.repo)?;
        let title = wanted.title.trim();
        if title.is_empty() || title.chars().count() > MAX_TITLE_CHARS {
            return Err(format!("`title` must have 1 to {MAX_TITLE_CHARS} characters"));
        }
        if wanted.body.as_ref().is_some_and(|body| body.len() > MAX_BODY_BYTES) {
            return Err(format!("`body` must have at most {MAX_BODY_BYTES} bytes"));
        }
        let mut issues = self.issues();
        if issues.len() >= MAX_ISSUES {
            return Err(format!("the demo server keeps {MAX_ISSUES} issues and has them: restart it"));
        }
        let number = issues.iter().filter(|issue| issue.repo == repo.name).count() + 1;
        issues.push(Issue { repo: repo.name, number, title: title.to_owned(), body: wanted.body });
        Ok(Json(Created {
            number,
            url: format!("{}/issues/{number}", url(repo.name)),
            repo: repo.name,
            title: title.to_owned(),
            state: "open",
        }))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Github {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("github", env!("CARGO_PKG_VERSION")).with_title("Demo code host"),
            )
            .with_instructions(
                "Made-up repositories of the owner `demo`. Use `list_repos` to find a repository's full name, `get_repo` \
                 for its details and `create_issue` to open an issue. Issues are kept until the server stops.",
            )
    }
}

fn find(name: &str) -> Result<&'static Repository, String> {
    REPOSITORIES.iter().find(|repo| repo.name.eq_ignore_ascii_case(name.trim())).ok_or_else(|| {
        let name: String = name.chars().take(100).collect();
        format!("no repository `{name}`: `list_repos` gives the names, such as `demo/project-a`")
    })
}

fn url(name: &str) -> String {
    format!("https://github.example/{name}")
}
