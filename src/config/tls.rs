//! The gateway's certificate, and those that vouch for servers: read with the configuration, so that a wrong one is a fault of the line that names it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use super::reader::Section;
use super::settings::Transport;
use crate::domain::json::sha256_hex;

/// Bytes of one file.
const MAX_FILE: u64 = 1 << 20;

/// `gateway.tls`: a certificate with its chain, and its key, ready to serve.
#[derive(Clone)]
pub struct Tls {
    /// The files, to see when they change.
    pub files: [PathBuf; 2],
    /// Of the text of both: what is equal was read from equal files.
    digest: String,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.digest == other.digest
    }
}

impl Tls {
    /// What connections are served with.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Reads the section. Paths are relative to the folder of `file`.
    pub(super) fn read(section: &Section<'_>, file: &Path) -> Option<Self> {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let named = |key: &'static str| {
            let path = section.text(key).map(|text| folder.join(text));
            if path.is_none() && !section.keys().iter().any(|there| there == key) {
                section.fault(None, format!("`gateway.tls` needs `{key}`, the path of a PEM file"), None);
            }
            path
        };
        let paths = (named("cert"), named("key"));
        section.refuse_the_rest();
        let (Some(cert_file), Some(key_file)) = paths else { return None };
        let read = |key: &'static str, path: &Path| {
            bounded(path).map_err(|error| section.fault(Some(key), unreadable(path, &error), None)).ok()
        };
        let (cert, key) = (read("cert", &cert_file), read("key", &key_file));
        let (cert, key) = (cert?, key?);
        let chain = chain(&cert, &cert_file).map_err(|why| section.fault(Some("cert"), why, None));
        let secret = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            section.fault(Some("key"), format!("`{}` holds no private key in PEM", key_file.display()), None)
        });
        let server = serving(chain.ok()?, secret.ok()?)
            .map_err(|why| section.fault(Some("key"), format!("the certificate cannot be used: {why}"), None))
            .ok()?;
        let digest = sha256_hex(&[cert.as_slice(), key.as_slice()].concat());
        Some(Self { files: [cert_file, key_file], digest, server: Arc::new(server) })
    }
}

/// `ca` of a server: the certificates that vouch for it, in place of the system's.
#[derive(Clone)]
pub struct Ca {
    file: PathBuf,
    pem: Arc<str>,
    client: Arc<ClientConfig>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("file", &self.file).finish_non_exhaustive()
    }
}

impl PartialEq for Ca {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.pem == other.pem
    }
}

impl Ca {
    /// The file and what stands in it.
    #[must_use]
    pub fn file(&self) -> (String, String) {
        (self.file.display().to_string(), self.pem.to_string())
    }

    /// The file alone.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// What connections are made with.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        ClientConfig::clone(&self.client)
    }

    /// Reads the key `ca` of a server that is reached so.
    pub(super) fn read(section: &Section<'_>, transport: Option<&Transport>) -> Option<Self> {
        let file = section.beside(&section.text("ca")?);
        let url = transport.and_then(Transport::http_url);
        if transport.is_some() && url.is_none_or(|url| url.scheme() != "https") {
            section.fault(Some("ca"), "`ca` goes with an https or wss `url`", None);
        }
        let read = || {
            let bytes = bounded(&file).map_err(|error| unreadable(&file, &error))?;
            let pem = std::str::from_utf8(&bytes).map_err(|_| format!("`{}` is no text", file.display()))?;
            let mut roots = RootCertStore::empty();
            for certificate in chain(pem.as_bytes(), &file)? {
                roots.add(certificate).map_err(|error| format!("`{}` cannot be used: {error}", file.display()))?;
            }
            let client = trusting(roots).map_err(|error| error.to_string())?;
            Ok((Arc::from(pem), Arc::new(client)))
        };
        let (pem, client) = read().map_err(|why: String| section.fault(Some("ca"), why, None)).ok()?;
        Some(Self { file, pem, client })
    }
}

/// A client that believes these certificates alone.
fn trusting(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What stands in a file of a reasonable size.
fn bounded(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than any certificate"));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("`{}` cannot be read: {error}", path.display())
}

/// The certificate and those that vouch for it.
fn chain(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("`{}` holds no certificate in PEM", path.display())),
    }
}

/// HTTP/1 over TLS 1.3 and 1.2; refuses a key that is not the certificate's.
fn serving(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
