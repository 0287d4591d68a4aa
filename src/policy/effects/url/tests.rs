//! URLs and the networks that they lead to.

use super::*;

const PRIVATE: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.0x1/",
    "http://127.0.0.1./",
    "http://127%2e0%2e0%2e1/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://0/",
    "http://0.0.0.0:8080/",
    "http://10.0.0.1",
    "http://10.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://0xc0.0xa8.1.1/",
    "http://100.64.0.1/",
    "http://169.254.1.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]:80/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:a00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:c0a8:101::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2001:db8::1]/",
    "http://[2607:f8b0::5efe:a00:1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd12:3456::1]/",
    "http://[ff02::1]/",
    "http://localhost/",
    "http://LOCALHOST:80/",
    "http://localhost./",
    "http://api.localhost/",
    "http://localhost.localdomain/",
    "http://printer.local/",
    "http://billing.internal/",
    "http://redis:6379/",
    "http://127.0.0.1.nip.io/",
    "http://localtest.me/",
    "http:/127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http:127.0.0.1",
    "HTTP://127.0.0.1",
    "ht\ntp://127.0.0.1/",
    "  http://127.0.0.1  ",
    "//127.0.0.1/",
    "127.0.0.1",
    "127.0.0.1:8080/admin",
    "localhost:8080",
    "localhost/admin",
    "http://user@127.0.0.1/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com#@127.0.0.1/",
    "gopher://127.0.0.1:6379/_INFO",
    "redis://0x7f.1:6379/",
    "ws://[::1]:9000/",
    "ftp://192.168.0.10/file",
];

#[test]
fn private_addresses_in_every_spelling() {
    for text in PRIVATE {
        assert!(recognise(text).has(Effect::UrlPrivateNetwork), "{text}: {:?}", recognise(text).names());
    }
}

#[test]
fn public_addresses_are_not_private() {
    let public = [
        "https://example.com/",
        "http://93.184.216.34/",
        "http://1.1.1.1/",
        "http://11.0.0.1/",
        "http://172.32.0.1/",
        "http://172.15.0.1/",
        "http://192.169.0.1/",
        "http://100.63.0.1/",
        "http://100.128.0.1/",
        "http://[2606:4700:4700::1111]/",
        "http://[64:ff9b::808:808]/",
        "http://[2002:808:808::1]/",
        "http://[::ffff:8.8.8.8]/",
        "https://localhost.example.com/",
        "https://internal.example.com/",
        "https://mylocal.com",
        "https://example.com/?next=http://127.0.0.1/",
        "https://münchen.de/",
        "example.com/a",
        "/relative/path",
        "./relative",
        "?q=1",
        "mailto:me@example.com",
        "users",
        "memo://insights",
        "https://token@example.com/",
        "data:text/plain,hi",
    ];
    for text in public {
        assert!(!recognise(text).has(Effect::UrlPrivateNetwork), "{text}: {:?}", recognise(text).names());
    }
}

#[test]
fn metadata_services_in_every_spelling() {
    let metadata = [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://[fd00:ec2::254]/",
        "http://[fd20:ce::254]/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://METADATA.google.internal./",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "169.254.169.254",
    ];
    for text in metadata {
        let effects = recognise(text);
        assert!(effects.has(Effect::UrlMetadata), "{text}: {:?}", effects.names());
        assert!(effects.has(Effect::UrlPrivateNetwork), "{text}");
    }
}

#[test]
fn schemes_and_credentials() {
    let cases: &[(&str, &[&str])] = &[
        ("https://example.com/a", &["url.http"]),
        ("http://example.com/a", &["url.http", "url.plain_http"]),
        ("https://me:secret@example.com/", &["url.credentials", "url.http"]),
        ("https://token@example.com/", &["url.credentials", "url.http"]),
        ("file:///etc/passwd", &["path.absolute", "path.system", "url.file"]),
        ("FILE:/home/x", &["path.absolute", "url.file"]),
        ("memo://insights", &["url.other_scheme"]),
        ("javascript:alert(1)", &["url.other_scheme"]),
        ("ftp://example.com/x", &["url.other_scheme"]),
        ("http://[::1", &["url.unparsed"]),
        ("http://256.256.256.256/", &["url.unparsed"]),
        ("http://", &["url.unparsed"]),
        ("", &[]),
        ("just words", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(recognise(text).names(), *expected, "{text}");
    }
}
