//! A certificate and its key in PEM files, and what becomes of them while the node runs.
//!
//! Both are read every two seconds, since their times on the disk say little (Kubernetes changes a link, a restored file is older than
//! what it replaces). What is new and right is taken up. What is not leaves the old one in use, and is told once it was found twice in a row: of the
//! two files one is written first. One that is not valid yet is not right yet. A certificate that is not replaced in time is told of likewise, when it has expired.
//!
//! Bounds: [`MAX_FILE`] bytes of each.

use std::{
    fs,
    io::Read,
    path::Path,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, ready};
use libp2p::websocket::tls;
use quinn::rustls;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::{
    config::TlsConfig,
    error::ConfigError,
    platform::{self, Delay, SystemTime},
};

/// The node's.
const WALL: Wall = Wall {
    date: platform::date,
    look: Duration::from_secs(2),
};
/// A chain of a few certificates has some kilobytes; a larger file is something else.
const MAX_FILE: u64 = 1 << 20;

const CERTIFICATE: &str = "security.tls_config.certificate";
const KEY: &str = "security.tls_config.key";

/// What the two files hold.
#[derive(Clone)]
pub struct Loaded {
    tls: tls::Config,
    /// Of both files' bytes.
    digest: [u8; 32],
}

/// By what time certificates are valid, and how often the files are looked at.
#[derive(Clone, Copy)]
struct Wall {
    date: fn() -> SystemTime,
    look: Duration,
}

/// The files of a configuration, with what was last taken from them.
pub struct Files {
    config: TlsConfig,
    wall: Wall,
    used: Loaded,
    look: Delay,
    looking: Option<BoxFuture<'static, Option<Result<Loaded, ConfigError>>>>,
    /// What was wrong at the last look, and whether it is told.
    wrong: Option<(ConfigError, bool)>,
}

impl Files {
    /// Those that a configuration names, if it names some.
    ///
    /// # Errors
    /// As [`load`].
    pub fn open(config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        Self::by(WALL, config)
    }

    fn by(wall: Wall, config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        let used = load(config, (wall.date)())?;
        Ok(used.map(|used| Self {
            config: config.clone(),
            wall,
            used,
            look: Delay::new(wall.look),
            looking: None,
            wrong: None,
        }))
    }

    /// What clients are to be shown.
    pub fn tls(&self) -> tls::Config {
        self.used.tls.clone()
    }

    /// What they are to be shown from now on, or what is wrong with the files: each once.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<tls::Config, ConfigError>> {
        loop {
            let Some(looking) = &mut self.looking else {
                ready!(self.look.poll_unpin(cx));
                let (config, date) = (self.config.clone(), self.wall.date);
                let read = move || load(&config, date()).transpose();
                let read = platform::offload(read).map(Option::flatten);
                self.looking = Some(read.boxed());
                continue;
            };
            let found = ready!(looking.poll_unpin(cx));
            self.looking = None;
            self.look.reset(self.wall.look);
            if let Some(told) = found.and_then(|found| self.found(found)) {
                return Poll::Ready(told);
            }
        }
    }

    /// What there is to tell after a look.
    fn found(
        &mut self,
        found: Result<Loaded, ConfigError>,
    ) -> Option<Result<tls::Config, ConfigError>> {
        match found {
            Ok(loaded) => {
                self.wrong = None;
                if loaded.digest == self.used.digest {
                    return None;
                }
                tracing::info!(certificate = ?self.config.certificate, "the certificate is renewed");
                self.used = loaded;
                Some(Ok(self.tls()))
            }
            Err(error) => match &mut self.wrong {
                Some((known, is_told)) if *known == error => {
                    if std::mem::replace(is_told, true) {
                        return None;
                    }
                    tracing::warn!(%error, "the certificate can't be renewed");
                    Some(Err(error))
                }
                _ => {
                    self.wrong = Some((error, false));
                    None
                }
            },
        }
    }
}

/// Reads both files, if the configuration names them, and sees whether they are of use at this time.
///
/// # Errors
/// Which file is not, why, and what to do.
pub fn load(config: &TlsConfig, now: SystemTime) -> Result<Option<Loaded>, ConfigError> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Ok(None);
    };
    let wrong = |field: &str, path: &Path, problem: String| {
        ConfigError::new(field, path.display(), problem)
    };
    let wrong_certificate = |problem| wrong(CERTIFICATE, certificate, problem);
    let wrong_key = |problem| wrong(KEY, key, problem);
    let chain_text = read(certificate).map_err(wrong_certificate)?;
    let key_text = read(key).map_err(wrong_key)?;
    let chain = chain(&chain_text, now).map_err(wrong_certificate)?;
    let secret = secret(&key_text).map_err(wrong_key)?;
    let tls = tls::Config::new(secret, chain).map_err(|error| match rustls_error(&error) {
        Some(rustls::Error::InconsistentKeys(_)) => {
            let certificate = certificate.display();
            wrong_key(format!(
                "it does not fit the certificate in {certificate}; give the key for which that was made"
            ))
        }
        Some(rustls::Error::InvalidCertificate(error)) => wrong_certificate(format!(
            "it is of no use for TLS ({error}); give one as CAs make them (X.509 version 3)"
        )),
        _ => wrong_key(
            "it is broken or of a kind of which TLS makes no use here; give a key of ECDSA on P-256 or P-384, or of RSA with 2048 to 4096 bits, and its certificate"
                .to_owned(),
        ),
    })?;
    let digest = Sha256::new()
        .chain_update(Sha256::digest(&chain_text))
        .chain_update(Sha256::digest(&key_text));
    Ok(Some(Loaded {
        tls,
        digest: digest.finalize().into(),
    }))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let remedy = "give a PEM file that this node may read";
    let wrong = |error: std::io::Error| format!("{error}; {remedy}");
    // A pipe would be waited for.
    if !fs::metadata(path).map_err(wrong)?.is_file() {
        return Err(format!("that is no file; {remedy}"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(wrong)?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(wrong)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes; {remedy}"));
    }
    Ok(bytes)
}

/// The host's certificate and those that vouch for it.
fn chain(text: &[u8], now: SystemTime) -> Result<Vec<tls::Certificate>, String> {
    let none = "there is no certificate in it; give the whole chain in PEM (-----BEGIN CERTIFICATE-----), the host's own first";
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = read.map_err(|_| none)?;
    let own = chain.first().ok_or(none)?;
    for certificate in &chain {
        x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| format!("a certificate in it can't be read ({error}); {none}"))?;
    }
    if let Ok((_, parsed)) = x509_parser::parse_x509_certificate(own) {
        let validity = parsed.validity();
        let (begins, ends) = (validity.not_before, validity.not_after);
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        if ends.timestamp() < now {
            return Err(format!(
                "it has expired ({ends}); renew it, and see that this machine's clock is right"
            ));
        }
        if begins.timestamp() > now {
            return Err(format!(
                "it is not valid yet (from {begins}); give one that is, and see that this machine's clock is right"
            ));
        }
    }
    let chain = chain.into_iter();
    Ok(chain
        .map(|der| tls::Certificate::new(der.to_vec()))
        .collect())
}

fn secret(text: &[u8]) -> Result<tls::PrivateKey, String> {
    let none = "there is no private key in it; give one in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)";
    // The error may have some of its bytes.
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| none)?;
    let der = key.secret_der().to_vec();
    // What libp2p does not know by its first bytes it panics at.
    PrivateKeyDer::try_from(der.clone()).map_err(|_| none.to_owned())?;
    Ok(tls::PrivateKey::new(der))
}

/// What TLS itself says, within libp2p's error.
fn rustls_error(error: &tls::Error) -> Option<&rustls::Error> {
    match error {
        tls::Error::Tls(error) => error.downcast_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        path::PathBuf,
        sync::atomic::{AtomicU64, Ordering},
    };

    use libp2p::identity::Keypair;
    use pem::Pem;
    use tempfile::TempDir;

    use super::*;
    use crate::transport::certificates::{Certificate, derive};

    const NOW: u64 = 1_800_000_000;

    fn date(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// What the clock on the wall says, in seconds.
    static CLOCK: AtomicU64 = AtomicU64::new(NOW);

    /// How often it was asked.
    static LOOKS: AtomicU64 = AtomicU64::new(0);

    fn set(seconds: u64) {
        CLOCK.store(seconds, Ordering::Relaxed);
    }

    const SET_BY_HAND: Wall = Wall {
        date: || {
            LOOKS.fetch_add(1, Ordering::Relaxed);
            date(CLOCK.load(Ordering::Relaxed))
        },
        look: Duration::from_millis(10),
    };

    /// Nothing is told at some looks.
    async fn quiet(files: &mut Files) {
        let end = LOOKS.load(Ordering::Relaxed) + 5;
        poll_fn(|cx| match files.poll_changed(cx) {
            Poll::Ready(_) => panic!("there is nothing to tell"),
            Poll::Pending if LOOKS.load(Ordering::Relaxed) >= end => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        })
        .await;
    }

    /// A certificate and its key, in PEM.
    fn made(byte: u8, until: u64) -> [String; 2] {
        valid(byte, [NOW - 100, until])
    }

    fn valid(byte: u8, times: [u64; 2]) -> [String; 2] {
        let identity = Keypair::ed25519_from_bytes([byte; 32]).expect("32 bytes");
        let made = derive(&identity, "test", times);
        let Certificate { der, key } = made.expect("a certificate");
        [("CERTIFICATE", der), ("PRIVATE KEY", key)]
            .map(|(tag, der)| pem::encode(&Pem::new(tag, der)))
    }

    /// How a key names its curve.
    const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    /// One that nobody takes.
    const P192: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1];

    /// What is in a file, in DER, with other bytes in one place.
    fn with(text: &str, old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut der = pem::parse(text).expect("PEM").into_contents();
        let at = der.windows(old.len()).position(|bytes| bytes == old);
        let at = at.expect("it is there");
        der[at..at + old.len()].copy_from_slice(new);
        der
    }

    /// Where a node has its files.
    struct Folder(TempDir);

    impl Folder {
        fn with(files: &[String; 2]) -> Self {
            let folder = Self(tempfile::tempdir().expect("a folder"));
            folder.write(files);
            folder
        }

        fn write(&self, [certificate, key]: &[String; 2]) {
            fs::write(self.path("cert.pem"), certificate).expect("written");
            fs::write(self.path("key.pem"), key).expect("written");
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn config(&self) -> TlsConfig {
            TlsConfig {
                certificate: Some(self.path("cert.pem")),
                key: Some(self.path("key.pem")),
            }
        }

        fn load(&self, now: u64) -> Result<Loaded, ConfigError> {
            load(&self.config(), date(now)).map(|loaded| loaded.expect("both are named"))
        }

        fn files(&self) -> Files {
            let now = Wall {
                date: || date(NOW),
                ..WALL
            };
            self.files_by(now)
        }

        fn files_by(&self, wall: Wall) -> Files {
            let files = Files::by(wall, &self.config()).expect("they are right");
            files.expect("both are named")
        }
    }

    #[test]
    fn a_pair_that_is_right_is_taken_and_none_is_no_error() {
        let right = made(1, NOW + 100);
        assert!(Folder::with(&right).load(NOW).is_ok());
        // One file may hold both, and other things.
        let both = format!("Bag Attributes\n{}\n{}", right[1], right[0]);
        assert!(Folder::with(&[both.clone(), both]).load(NOW).is_ok());
        assert!(load(&TlsConfig::default(), date(NOW)).is_ok_and(|loaded| loaded.is_none()));
    }

    #[test]
    fn what_is_of_no_use_is_named_with_what_to_do() {
        let right = made(1, NOW + 100);
        let [certificate, key] = &right;
        let other = made(2, NOW + 100);
        let not_x509 = pem::encode(&Pem::new("CERTIFICATE", b"no DER".as_slice()));
        let not_pkcs8 = pem::encode(&Pem::new("PRIVATE KEY", b"no DER".as_slice()));
        let other_curve = pem::encode(&Pem::new("PRIVATE KEY", with(key, &P256, &P192)));
        let version_1 = with(certificate, &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 0]);
        let version_1 = pem::encode(&Pem::new("CERTIFICATE", version_1));
        let sealed = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let torn = certificate[..certificate.len() / 2].to_owned();
        let chain_torn = format!("{certificate}\n{not_x509}");
        let long = format!("{certificate}{}", "#".repeat(1 << 20));
        let text = |text: &str| text.to_owned();
        for (files, field, said) in [
            ([text(""), key.clone()], CERTIFICATE, "whole chain in PEM"),
            (
                [text("garbage"), key.clone()],
                CERTIFICATE,
                "whole chain in PEM",
            ),
            (
                [text("\u{fffd}\0"), key.clone()],
                CERTIFICATE,
                "whole chain in PEM",
            ),
            ([torn, key.clone()], CERTIFICATE, "whole chain in PEM"),
            (
                [key.clone(), key.clone()],
                CERTIFICATE,
                "whole chain in PEM",
            ),
            ([not_x509, key.clone()], CERTIFICATE, "can't be read"),
            ([chain_torn, key.clone()], CERTIFICATE, "can't be read"),
            ([long, key.clone()], CERTIFICATE, "larger than"),
            (
                [made(1, NOW - 1)[0].clone(), key.clone()],
                CERTIFICATE,
                "has expired",
            ),
            ([certificate.clone(), text("")], KEY, "without a passphrase"),
            ([certificate.clone(), sealed], KEY, "without a passphrase"),
            (
                [certificate.clone(), certificate.clone()],
                KEY,
                "without a passphrase",
            ),
            (
                [certificate.clone(), not_pkcs8],
                KEY,
                "without a passphrase",
            ),
            ([version_1, key.clone()], CERTIFICATE, "version 3"),
            (
                [valid(1, [NOW + 1, NOW + 100])[0].clone(), key.clone()],
                CERTIFICATE,
                "is not valid yet",
            ),
            (
                [certificate.clone(), other_curve],
                KEY,
                "ECDSA on P-256 or P-384",
            ),
            ([certificate.clone(), other[1].clone()], KEY, "does not fit"),
        ] {
            let folder = Folder::with(&files);
            let error = folder.load(NOW).err().expect("it is of no use");
            let path = if field == KEY { "key.pem" } else { "cert.pem" };
            assert_eq!(error.field, field, "{error}");
            assert_eq!(error.value, folder.path(path).display().to_string());
            assert!(error.problem.contains(said), "{error}");
            assert!(error.problem.contains(';'), "no remedy: {error}");
        }
        for name in ["cert.pem", "key.pem"] {
            let folder = Folder::with(&right);
            fs::remove_file(folder.path(name)).expect("it was there");
            let absent = folder.load(NOW).err().expect("absent").to_string();
            assert!(
                absent.contains(name) && absent.contains("give a PEM file"),
                "{absent}"
            );
            fs::create_dir(folder.path(name)).expect("a folder");
            let no_file = folder.load(NOW).err().expect("a folder").to_string();
            assert!(no_file.contains("that is no file"), "{no_file}");
        }
    }

    /// A key's bytes stand in no error, and so in no log.
    #[test]
    fn an_error_tells_nothing_of_a_key() {
        let [certificate, key] = made(1, NOW + 100);
        let broken = key.replace("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY---");
        let secret = key.lines().nth(1).expect("a line").trim_end();
        let flawed = key.replacen(secret, &format!("{}*", &secret[1..]), 1);
        for key in [broken, flawed] {
            let error = Folder::with(&[certificate.clone(), key])
                .load(NOW)
                .err()
                .expect("broken");
            assert!(!error.to_string().contains(&secret[8..24]), "{error}");
        }
    }

    #[test]
    fn a_renewed_pair_is_taken_up_once() {
        let folder = Folder::with(&made(1, NOW + 100));
        let mut files = folder.files();
        assert!(files.found(folder.load(NOW)).is_none(), "nothing is new");
        folder.write(&made(2, NOW + 200));
        assert!(matches!(files.found(folder.load(NOW)), Some(Ok(_))));
        assert!(files.found(folder.load(NOW)).is_none());
    }

    #[test]
    fn two_files_are_written_one_after_the_other() {
        let (first, second) = (made(1, NOW + 100), made(2, NOW + 200));
        let folder = Folder::with(&first);
        let mut files = folder.files();
        folder.write(&[second[0].clone(), first[1].clone()]);
        assert!(
            files.found(folder.load(NOW)).is_none(),
            "half of it is here"
        );
        folder.write(&second);
        assert!(matches!(files.found(folder.load(NOW)), Some(Ok(_))));
    }

    #[test]
    fn a_broken_one_is_told_once_and_the_old_one_kept_until_it_is_mended() {
        let folder = Folder::with(&made(1, NOW + 100));
        let mut files = folder.files();
        let before = files.used.digest;
        folder.write(&["garbage".to_owned(), "garbage".to_owned()]);
        let looks: Vec<_> = (0..4).map(|_| files.found(folder.load(NOW))).collect();
        assert!(matches!(&looks[..], [None, Some(Err(_)), None, None]));
        assert_eq!(files.used.digest, before);
        folder.write(&made(1, NOW + 100));
        assert!(files.found(folder.load(NOW)).is_none(), "that is in use");
        fs::remove_file(folder.path("key.pem")).expect("it was there");
        let looks: Vec<_> = (0..3).map(|_| files.found(folder.load(NOW))).collect();
        assert!(
            matches!(&looks[..], [None, Some(Err(_)), None]),
            "told anew"
        );
    }

    #[test]
    fn one_that_is_not_valid_yet_is_taken_up_when_it_is() {
        let folder = Folder::with(&made(1, NOW + 100));
        let mut files = folder.files();
        let before = files.used.digest;
        folder.write(&valid(2, [NOW + 10, NOW + 200]));
        let looks: Vec<_> = (0..3).map(|_| files.found(folder.load(NOW))).collect();
        assert!(matches!(&looks[..], [None, Some(Err(_)), None]));
        assert_eq!(files.used.digest, before);
        assert!(matches!(files.found(folder.load(NOW + 10)), Some(Ok(_))));
    }

    /// On a clock that is set by hand: the one in use expires, is told of once, and is replaced by the next thing that is told.
    #[tokio::test]
    async fn one_that_nobody_renews_is_told_of_once_when_it_has_expired() {
        let folder = Folder::with(&made(1, NOW + 100));
        let mut files = folder.files_by(SET_BY_HAND);
        set(NOW + 100);
        quiet(&mut files).await;
        for _ in 0..2 {
            set(NOW + 101);
            let told = poll_fn(|cx| files.poll_changed(cx)).await;
            let told = told.expect_err("it has expired");
            assert!(told.problem.contains("has expired"), "{told}");
            quiet(&mut files).await;
            // It was the clock that was wrong.
            set(NOW);
            quiet(&mut files).await;
        }
    }
}
