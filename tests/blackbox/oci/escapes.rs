//! Escapes from other runtimes, tried on this one. Named after the CVE where there is one.
//!
//! The attacker has an image of his own, or a process in a container (`intruder`), or a folder that is
//! mounted into a container and that he changes while that is made.

mod paths;
mod processes;
mod races;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use dhow_tests::Bundle;
use serde_json::{Value, json};

/// Says whether the terminal came to lie on something that a link leads to.
const CONSOLE: &str =
    "tty; [ -c /proc/sys/kernel/core_pattern ] && echo covered; cat ${SECRET:-/no}; true";

/// A bundle, a file of the host's that its container must not see, and a folder that it must not fill.
struct Attack {
    bundle: Bundle,
    secret: PathBuf,
    victim: PathBuf,
}

impl Attack {
    /// Prepares one whose container runs `arguments`.
    fn new(arguments: &[&str]) -> Result<Self> {
        let bundle = Bundle::new(arguments)?;
        let (secret, victim) = (bundle.path("secret"), bundle.path("victim"));
        fs::write(&secret, "the host's\n")?;
        fs::create_dir(&victim)?;
        Ok(Self { bundle, secret, victim })
    }

    /// One whose container runs the intruder, with these capabilities more than the usual.
    fn intruder(word: &str, more: &[&str]) -> Result<Self> {
        let attack = Self::new(&["true"])?;
        let secret = attack.secret.to_string_lossy().into_owned();
        attack.bundle.args(&["/intruder", word, &secret])?;
        attack.bring_intruder()?;
        attack.allow(more)?;
        Ok(attack)
    }

    /// Puts the intruder into the image.
    fn bring_intruder(&self) -> Result<()> {
        fs::copy(env!("CARGO_BIN_EXE_intruder"), self.bundle.path("rootfs/intruder"))?;
        Ok(())
    }

    /// Gives the container's process these capabilities as well.
    fn allow(&self, capabilities: &[&str]) -> Result<()> {
        self.bundle.change(|config| {
            for set in ["bounding", "permitted", "effective"] {
                if let Some(set) = config["process"]["capabilities"][set].as_array_mut() {
                    set.extend(capabilities.iter().map(|it| json!(it)));
                }
            }
        })
    }

    /// Puts a symlink into the image, in the place of whatever is there.
    fn link(&self, place: &str, target: &str) -> Result<()> {
        let path = self.bundle.path("rootfs").join(place);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        Ok(std::os::unix::fs::symlink(target, path)?)
    }

    /// Takes these mounts out of the configuration.
    fn without_mounts(&self, below: &str) -> Result<()> {
        self.bundle.change(|config| {
            if let Some(mounts) = config["mounts"].as_array_mut() {
                let is_below = |it: &Value| {
                    it["destination"].as_str().is_some_and(|path| path.starts_with(below))
                };
                mounts.retain(|mount| !is_below(mount));
            }
        })
    }

    /// Where links may lead to: the victim by its path, and by going up first.
    fn ways_out(&self, name: &str) -> [String; 2] {
        let path = self.victim.join(name).display().to_string();
        [path.clone(), format!("../../../../../../../../..{path}")]
    }

    /// Nothing came out of the container, and nothing is left.
    fn failed(&self) -> Result<()> {
        assert_eq!(fs::read_dir(&self.victim)?.count(), 0, "the victim's folder has files");
        assert_eq!(fs::read_to_string(&self.secret)?, "the host's\n");
        self.bundle.nothing_left()
    }
}
