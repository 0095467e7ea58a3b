//! Redis over TLS, with certificates made for the test (by `openssl`).

mod servers;

use dogpile::backend::{Arguments, AsyncBackend, Backend, RedisBackend, Schemes};
use dogpile::{ErrorKind, Region};
use servers::{Folder, Redis, free_port, until};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn openssl(folder: &Path, words: &str) {
    let status = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is there: run apt-get install openssl");
    assert!(status.success(), "openssl {words}");
}

/// An authority, `NAME.pem`, and a server's certificate of its, `NAME-server.pem`.
fn certificates(folder: &Path, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"));
    openssl(folder, &format!("req {key} -keyout {name}-server.key -out {name}.csr -subj /CN=localhost"));
    std::fs::write(
        folder.join("names"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -out {name}-server.pem -days 2 \
             -extfile names"
        ),
    );
}

#[test]
fn all_goes_over_tls() {
    let folder = Folder::new();
    for name in ["own", "other"] {
        certificates(folder.path(), name);
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port();
    let _server = Redis::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("own-server.pem"),
        "--tls-key-file",
        &file("own-server.key"),
        "--tls-ca-cert-file",
        &file("own.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("rediss://{host}:{port}?ca={}&timeout=2s", file("own.pem"));
        let [region, other] = [(); 2].map(|()| Region::from_url(&url).unwrap());
        // Threads, tasks, and messages: the second one waits for the first one's lock.
        let is_made = AtomicBool::new(false);
        thread::scope(|scope| {
            let made = scope.spawn(|| {
                region
                    .get_or_create(host, || {
                        is_made.store(true, Ordering::SeqCst);
                        until("the other one waits", || region.key_is_locked(host).unwrap());
                        1
                    })
                    .unwrap()
            });
            until("the first one makes it", || is_made.load(Ordering::SeqCst));
            assert_eq!(*other.get_or_create(host, || 2).unwrap(), 1);
            assert_eq!(*made.join().unwrap(), 1);
        });
        let tasks = other.for_tasks().unwrap();
        assert_eq!(pollster::block_on(tasks.get::<i32>(host)).unwrap().as_deref(), Some(&1));
    }
    // Another authority, the system's, and no encryption at all.
    let no_tls = format!("redis://127.0.0.1:{port}?timeout=2s");
    let wrong = format!("rediss://127.0.0.1:{port}?ca={}&timeout=2s", file("other.pem"));
    let systems = format!("rediss://127.0.0.1:{port}?timeout=2s");
    let missing = format!("rediss://127.0.0.1:{port}?ca={}", file("none.pem"));
    let error = Region::from_url(&missing).unwrap_err();
    assert!(error.to_string().contains("`ca`: there is no such file"), "{error}");
    for url in [no_tls, wrong, systems] {
        let region = Region::from_url(&url).unwrap();
        let error = region.set("key", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
        let error = pollster::block_on(region.for_tasks().unwrap().set("key", 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
    }
    Schemes::new().open(Arguments::from_url("rediss+cluster://h").unwrap()).unwrap();
    let backend = RedisBackend::builder("localhost", port).tls(Some(file("own.pem").into()));
    let backend = backend.timeout(Duration::from_secs(2)).build().unwrap();
    assert!(Backend::get(&backend, "nothing").unwrap().is_none());
    assert!(pollster::block_on(AsyncBackend::get(&backend, "nothing")).unwrap().is_none());
}
