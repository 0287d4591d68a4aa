//! Where configuration comes from: files that are named, files that lie in the working directory, or what ships.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::telemetry::of_environment;
use crate::config::{ApiPolicies, Fault, Faults, Profiles, Settings, evals, file, profiles};
use crate::evals::Suites;
use crate::policy::{Bundle, PolicyFault, PolicySource};
use crate::scan::Scanner;
use crate::store::PolicyRecord;

/// The policies that ship with the program, by the names they have in the repository.
const SHIPPED_POLICIES: [(&str, &str); 4] = [
    ("policies/allow-write-to-writers.cedar", include_str!("../../policies/allow-write-to-writers.cedar")),
    ("policies/block-sql-drop.cedar", include_str!("../../policies/block-sql-drop.cedar")),
    ("policies/default-allow-read.cedar", include_str!("../../policies/default-allow-read.cedar")),
    ("policies/destructive-needs-approval.cedar", include_str!("../../policies/destructive-needs-approval.cedar")),
];

/// The inputs of a configuration.
#[derive(Debug, Clone)]
pub struct Sources {
    /// A file that was named must be there; one of the working directory may be.
    pub config: Place,
    pub profiles: Place,
    /// Beside it lies `evals`, the folder of suites.
    pub policies: Place,
    /// The program that runs the demo servers.
    pub program: String,
    pub lookup: fn(&str) -> Option<String>,
    /// The gateway's own environment, of which children get a few harmless variables.
    pub environment: Vec<(OsString, OsString)>,
}

/// A path, and whether somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    pub named: bool,
}

impl Place {
    /// The path that was named, or `default` in the working directory.
    #[must_use]
    pub fn of(named: Option<PathBuf>, default: &str) -> Self {
        let is_named = named.is_some();
        Self { path: named.unwrap_or_else(|| PathBuf::from(default)), named: is_named }
    }

    fn is_there(&self) -> bool {
        self.named || self.path.exists()
    }
}

/// What the sources say, read and checked.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub settings: Arc<Settings>,
    pub profiles: Arc<Profiles>,
    pub bundle: Arc<Bundle>,
    /// Whether the demo servers run because no configuration file was found.
    pub demo: bool,
    pub environment: Vec<(OsString, OsString)>,
    /// The policies of the files: name and text.
    policies: Vec<(String, String)>,
    /// The policies that were made over the API.
    pub api: Vec<PolicyRecord>,
    /// The texts that were read, to see whether a change is one.
    texts: Vec<(String, String)>,
    /// The sources that were files, and not what ships.
    files: Vec<PathBuf>,
}

impl Inputs {
    /// What `earlier` was read from and is not there any more: going on with what ships would open what a file closed.
    #[must_use]
    pub fn lost_since(&self, earlier: &Self) -> Vec<Fault> {
        let lost = earlier.files.iter().filter(|path| !self.files.contains(path));
        let fault = |path: &PathBuf| Fault {
            hint: Some("put it back, or restart to run without it".into()),
            ..fault_of(path, "it was removed".into())
        };
        lost.map(fault).collect()
    }

    /// Whether both were made of the same text.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.texts == other.texts
            && self.policies == other.policies
            && self.api == other.api
            && self.settings.gateway.tls == other.settings.gateway.tls
    }

    /// Files besides the sources that were read with them.
    pub fn read_along(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.settings.servers.values().filter_map(|server| Some(server.ca.as_ref()?.path()));
        self.settings.gateway.tls.iter().flat_map(|tls| &tls.files).map(PathBuf::as_path).chain(authorities)
    }

    /// The same with these policies of the API.
    ///
    /// # Errors
    /// Every fault of every policy.
    pub fn with_api(&self, api: Vec<PolicyRecord>) -> Result<Self, Vec<PolicyFault>> {
        let bundle = Arc::new(compile(&self.policies, &api, self.settings.api_policies)?);
        Ok(Self { bundle, api, ..self.clone() })
    }

    /// The same, knowing of these policies of the API and not going by them.
    #[must_use]
    pub(super) fn holding(self, api: Vec<PolicyRecord>) -> Self {
        Self { api, ..self }
    }

    /// The file of the policies that has this name, with or without its folder and its ending.
    #[must_use]
    pub fn policy_file(&self, name: &str) -> Option<&str> {
        let stem = |file: &str| Path::new(file).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        self.policies.iter().map(|(file, _)| file.as_str()).find(|file| stem(file).as_deref() == Some(name))
    }
}

impl Sources {
    /// What ships, whatever lies in the working directory; for commands that need no configuration.
    #[must_use]
    pub fn shipped() -> Self {
        let nowhere = || Place { path: PathBuf::new(), named: false };
        Self {
            config: nowhere(),
            profiles: nowhere(),
            policies: nowhere(),
            program: String::new(),
            lookup: |_| None,
            environment: Vec::new(),
        }
    }

    /// Whether nothing is read but what ships.
    #[must_use]
    pub fn is_shipped(&self) -> bool {
        [&self.config, &self.profiles, &self.policies].iter().all(|place| place.path.as_os_str().is_empty())
    }

    /// Reads everything.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn read(&self) -> Result<Inputs, Faults> {
        self.read_with(Vec::new())
    }

    /// Reads everything; `api` are the policies that were made over the API.
    ///
    /// # Errors
    /// All faults of all files and policies.
    pub fn read_with(&self, api: Vec<PolicyRecord>) -> Result<Inputs, Faults> {
        let places = [&self.config, &self.profiles, &self.policies];
        let mut faults = Vec::new();
        let mut texts = Vec::new();
        let settings = self.settings(&mut texts).map_err(|found| faults.extend(found.0)).ok();
        let profiles = self.profile_file(&mut texts).map_err(|found| faults.extend(found.0)).ok();
        let taken = settings.as_ref().map(|(settings, _)| settings.api_policies).unwrap_or_default();
        let policies = self.policy_texts().and_then(|policies| {
            let bundle = compile(&policies, &api, taken);
            let bundle = bundle.map_err(|faults| Faults(faults.into_iter().map(of_policy).collect()))?;
            Ok((policies, bundle))
        });
        let policies = policies.map_err(|found| faults.extend(found.0)).ok();
        let suites = self.suites(&mut texts).map_err(|found| faults.extend(found.0)).ok();
        match (settings, profiles, policies, suites) {
            (Some((settings, demo)), Some(profiles), Some((policies, bundle)), Some(suites)) => Ok(Inputs {
                settings: Arc::new(Settings { evals: Arc::new(suites), ..settings }),
                profiles: Arc::new(profiles),
                bundle: Arc::new(bundle),
                demo,
                environment: self.environment.clone(),
                policies,
                api,
                texts,
                files: {
                    let named = places.into_iter().filter(|place| place.is_there()).map(|place| place.path.clone());
                    named.chain(self.evals()).collect()
                },
            }),
            _ => Err(Faults(faults)),
        }
    }

    /// The rules against secrets and personal data that the configuration leaves in force.
    ///
    /// # Errors
    /// Where the file cannot be read, or is faulty.
    pub fn scanner(&self) -> Result<Arc<Scanner>, Faults> {
        Ok(self.settings(&mut Vec::new())?.0.scanner)
    }

    /// The policies as they stand in the files now: name and text.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn policy_texts(&self) -> Result<Vec<(String, String)>, Faults> {
        if self.policies.is_there() {
            files_in(&self.policies.path, "cedar")
        } else {
            Ok(SHIPPED_POLICIES.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec())
        }
    }

    /// The folders in which a change may matter, where these inputs are active.
    #[must_use]
    pub fn folders(&self, active: &Inputs) -> Vec<PathBuf> {
        let parent = |path: &Path| {
            path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
        };
        let mut folders = vec![
            parent(&self.config.path),
            parent(&self.profiles.path),
            parent(&self.policies.path),
            self.policies.path.clone(),
        ];
        folders.extend(self.evals());
        folders.extend(active.read_along().map(parent));
        folders.retain(|folder| folder.is_dir());
        folders.sort();
        folders.dedup();
        folders
    }

    fn settings(&self, texts: &mut Vec<(String, String)>) -> Result<(Settings, bool), Faults> {
        if !self.config.is_there() {
            texts.push(("(no configuration file)".into(), String::new()));
            let telemetry = of_environment(&self.lookup).map(Arc::new);
            return Ok((Settings { telemetry, ..Settings::demo(&self.program) }, true));
        }
        let (name, text) = read_text(&self.config.path)?;
        let settings = file::read(&name, &text, &self.lookup)?;
        texts.push((name, text));
        texts.extend(settings.key_files());
        Ok((settings, false))
    }

    fn profile_file(&self, texts: &mut Vec<(String, String)>) -> Result<Profiles, Faults> {
        let (name, text) = if self.profiles.is_there() {
            read_text(&self.profiles.path)?
        } else {
            ("profiles.toml".into(), profiles::SHIPPED.to_owned())
        };
        let profiles = profiles::read(&name, &text)?;
        texts.push((name, text));
        Ok(profiles)
    }

    /// The folder of suites, beside that of the policies, where there is one.
    fn evals(&self) -> Option<PathBuf> {
        let folder = self.policies.path.parent()?.join("evals");
        folder.is_dir().then_some(folder)
    }

    /// The suites of the folder; where nothing is configured at all, the one that ships for the demo servers.
    fn suites(&self, texts: &mut Vec<(String, String)>) -> Result<Suites, Faults> {
        let sources = match self.evals() {
            Some(folder) => files_in(&folder, "toml")?,
            None if self.config.is_there() => Vec::new(),
            None => vec![(evals::SHIPPED.0.to_owned(), evals::SHIPPED.1.to_owned())],
        };
        let suites = evals::read_all(&sources)?;
        texts.extend(sources);
        Ok(suites)
    }
}

/// What a policy that was made over the API has in the place of a file.
pub(super) const API: &str = "api:";

/// Every policy: those of the files, and those of the API of which the configuration takes such. What was made while it took
/// more counts no longer.
pub(super) fn compile(
    files: &[(String, String)],
    api: &[PolicyRecord],
    taken: ApiPolicies,
) -> Result<Bundle, Vec<PolicyFault>> {
    let files: Vec<PolicySource> = files.iter().map(|(file, text)| source(file, text)).collect();
    let with = |left_out: &[Arc<str>]| {
        let api = api.iter().map(of_api).filter(|source| !left_out.contains(&source.file));
        Bundle::compile_with(&files, &api.collect::<Vec<_>>())
    };
    let bundle = with(&[])?;
    let policies = bundle.policies().iter().filter(|policy| policy.file().starts_with(API));
    let left_out = policies.filter(|policy| !taken.takes(policy.effect(), policy.mode()));
    let left_out: Vec<Arc<str>> = left_out.map(|policy| Arc::clone(policy.file())).collect();
    if left_out.is_empty() {
        return Ok(bundle);
    }
    tracing::warn!(
        policies = left_out.join(", "),
        "these policies permit and were made over the API, from which `[policies] api` takes none that does: they do not \
         count; take them out with `toolgate policy remove NAME`"
    );
    with(&left_out)
}

/// A policy of the API as the bundle takes it.
fn of_api(record: &PolicyRecord) -> PolicySource {
    source(&format!("{API}{}", record.name), &record.text)
}

pub(super) fn source(file: &str, text: &str) -> PolicySource {
    PolicySource { file: file.into(), text: text.into() }
}

/// A fault of a policy as one of its file. One of the API has no file to mend.
pub(super) fn of_policy(fault: PolicyFault) -> Fault {
    let PolicyFault { file, line, column, message, hint, .. } = fault;
    let remove = || Some(format!("take it out with `toolgate policy remove {}`", file.strip_prefix(API)?));
    let hint = hint.or_else(remove);
    Fault { file: file.to_string(), line: line as usize, column: column as usize, message, hint }
}

fn fault_of(path: &Path, message: String) -> Fault {
    Fault { file: path.display().to_string(), line: 1, column: 1, message, hint: None }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Faults {
    Faults(vec![fault_of(path, format!("cannot be read: {error}"))])
}

fn read_text(path: &Path) -> Result<(String, String), Faults> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.display().to_string(), text))
}

/// The files of a folder that end so, in the order of their names.
fn files_in(folder: &Path, ending: &str) -> Result<Vec<(String, String)>, Faults> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.sort();
    paths.iter().map(|path| read_text(path)).collect()
}
