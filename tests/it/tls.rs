//! TLS of the gateway's own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::task::TaskTracker;
use toolgate::gateway::control::Command;
use toolgate::http::Deadlines;

use crate::support::{FakeChannel, Program, Setup, TestGateway, eventually, raw, soon, toolgate_in};

const TLS: &str = "[gateway]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n";

/// Writes a new certificate and its key into a folder; gives the certificate.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, text) in [("key.pem", made.signing_key.serialize_pem()), ("cert.pem", made.cert.pem())] {
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
    made.cert.der().clone()
}

/// `GET path` by a client that trusts this certificate alone; `None` where the handshake fails.
async fn get(address: SocketAddr, trusted: &CertificateDer<'static>, path: &str) -> Option<Value> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream);
    let stream = soon("the handshake", connecting).await.ok()?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    TaskTracker::new().spawn(connection);
    let request = http::Request::get(path).header("host", "localhost").body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = soon("the answer", sender.send_request(request)).await.unwrap();
    let body = soon("the body", response.into_body().collect()).await.unwrap().to_bytes();
    Some(serde_json::from_slice(&body).unwrap())
}

async fn start(setup: Setup) -> (TestGateway, CertificateDer<'static>) {
    let trusted = certify(setup.folder());
    (setup.config(TLS).start().await, trusted)
}

#[tokio::test]
async fn requests_over_tls_are_answered_and_others_are_not() {
    let (gateway, trusted) = start(Setup::new()).await;
    assert_eq!(get(gateway.address, &trusted, "/healthz").await.unwrap()["status"], "ok");
    let card = get(gateway.address, &trusted, "/v1/mcp").await.unwrap();
    assert_eq!(card["url"], "https://localhost/v1/mcp");
    let plain = raw(gateway.address, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(!plain.await.contains("HTTP/"), "nothing in the clear");
    gateway.finish().await;
}

/// Another certificate in the same files is served from then on; without `tls` in the file, TLS stays until a restart.
#[tokio::test]
async fn a_renewed_certificate_is_taken_up() {
    let (gateway, first) = start(Setup::new()).await;
    let second = certify(gateway.file("").as_path());
    eventually("the new certificate is served", async || get(gateway.address, &second, "/healthz").await).await;
    assert!(get(gateway.address, &first, "/healthz").await.is_none());
    gateway.write("toolgate.toml", "");
    gateway.write("profiles.toml", "[profiles.fresh]\nscopes = []\n");
    eventually("the change is taken up", async || {
        let profiles = get(gateway.address, &second, "/v1/mcp/key-profiles").await.expect("TLS stays until a restart");
        profiles["profiles"].get("fresh").is_some().then_some(())
    })
    .await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let short = Deadlines { head: Duration::from_millis(200), ..Deadlines::default() };
    let (gateway, trusted) = start(Setup::new().deadlines(short)).await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    assert!(matches!(soon("the end", silent.read(&mut [0; 64])).await, Ok(0) | Err(_)));
    assert!(get(gateway.address, &trusted, "/healthz").await.is_some());
    gateway.finish().await;
}

#[tokio::test]
async fn the_program_says_https_and_where_a_certificate_is_wrong() {
    let folder = Arc::new(TempDir::new().unwrap());
    let (place, write) =
        (folder.path(), |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap());
    write("toolgate.toml", TLS);
    let refused = async |what: &str| {
        let ended = toolgate_in(place, &["serve", "--listen", "127.0.0.1:0"], &[]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{what}");
        assert!(ended.err.contains("toolgate.toml:2:") && ended.err.contains(what), "{what}: {}", ended.err);
    };
    refused("cert.pem` cannot be read").await;
    certify(place);
    write("key.pem", "nothing");
    refused("key.pem` holds no private key").await;
    write("key.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    refused("the certificate cannot be used").await;
    write("cert.pem", "nothing");
    refused("cert.pem` holds no certificate").await;
    write("toolgate.toml", "[gateway]\ntls = { cert = \"cert.pem\" }\n");
    refused("`gateway.tls` needs `key`").await;
    write("toolgate.toml", TLS);
    let trusted = certify(place);
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    assert_eq!(program.out(), [format!("listening on https://{}", program.address)]);
    let banner = program.err().join("\n");
    assert!(banner.contains(&format!("curl -s https://{}/v1/mcp", program.address)), "{banner}");
    assert!(banner.contains(&format!("\"https://{}/v1/mcp\"", program.address)), "{banner}");
    assert!(get(program.address, &trusted, "/healthz").await.is_some());
    assert_eq!(program.run(&["keys", "list"]).await.code, Some(0), "the command line has its own door");
    program.stop().await;
}

/// An authority of a test: its certificate in `NAME.pem` of a folder, and what a server with its word speaks TLS by.
fn authority(folder: &Path, name: &str) -> TlsAcceptor {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    let (issuer, of_server) = (rcgen::Issuer::new(params, key), rcgen::KeyPair::generate().unwrap());
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&of_server, &issuer).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), of_server.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(of_server.serialize_der()).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// How the only server of a gateway is, and why.
async fn state(gateway: &TestGateway) -> (String, String) {
    let server = gateway.control(Command::ServersList).await["servers"][0].clone();
    (server["state"].as_str().unwrap().into(), server["last_error"].as_str().unwrap_or_default().into())
}

#[tokio::test]
async fn a_web_socket_is_known_by_the_authority_that_is_configured() {
    let setup = Setup::new();
    let backend = FakeChannel::wss(authority(setup.folder(), "ours")).await;
    authority(setup.folder(), "theirs");
    let gateway = setup.config(&backend.section("up", "ca = \"theirs.pem\"")).start().await;
    let (was, why) = state(&gateway).await;
    assert!(was == "down" && why.contains("certificate"), "{was}: {why}");
    gateway.write("toolgate.toml", &backend.section("up", "ca = \"ours.pem\""));
    eventually("it is believed", async || (state(&gateway).await.0 == "ready").then_some(())).await;
    eventually("its tools can be called", async || gateway.gateway.settled().then_some(())).await;
    assert_eq!(gateway.agent().await.invoke("up", "read", "{}").await.told(), "done");
    gateway.finish().await;
}

/// The gateway is a server too, so another one stands before it here.
#[tokio::test]
async fn a_server_over_https_is_known_by_the_authority_that_is_configured() {
    let behind = Setup::new();
    authority(behind.folder(), "ours");
    let ours = std::fs::read(behind.folder().join("ours.pem")).unwrap();
    let behind = behind.config(TLS).start().await;
    let key = behind.key("agent").await;
    let section = |ca: &str| {
        let headers = format!("headers = {{ X-API-Key = \"{}\" }}", key.text);
        format!("[servers.up]\nurl = \"https://{}/v1/mcp\"\n{headers}\n{ca}\n", behind.address)
    };
    let setup = Setup::new();
    std::fs::write(setup.folder().join("ours.pem"), ours).unwrap();
    let gateway = setup.config(&section("")).start().await;
    let (was, why) = state(&gateway).await;
    assert!(was == "down" && why.contains("certificate"), "the system knows nothing of it: {was}: {why}");
    gateway.write("toolgate.toml", &section("ca = \"ours.pem\""));
    eventually("it is believed", async || (state(&gateway).await.0 == "ready").then_some(())).await;
    gateway.finish().await;
    behind.finish().await;
}
