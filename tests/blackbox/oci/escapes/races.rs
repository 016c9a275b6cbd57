//! By changing a volume while it is mounted into a container: a folder and a link to elsewhere take each
//! other's place without end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use dhow_tests::rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::Attack;

/// How many containers are made while the race goes on.
const ROUNDS: usize = 12;

/// Exchanges two names until dropped.
struct Race {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Race {
    fn between(one: PathBuf, other: PathBuf) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// An attack with a volume at `/volume`, in which the folder `place` and links out of it change places.
fn volume(place: &str, is_folder: bool) -> Result<(Attack, PathBuf)> {
    let look = "for p in /volume /volume/* /; do ls -a $p/; done; cat $SECRET; true";
    let attack = Attack::new(&["sh", "-c", look])?;
    let secret = format!("SECRET={}", attack.secret.display());
    let folder = attack.bundle.path("volume");
    fs::create_dir(&folder)?;
    if is_folder {
        fs::create_dir(folder.join(place))?;
    } else {
        fs::write(folder.join(place), "")?;
    }
    attack.bundle.change(|config| {
        if let Some(environment) = config["process"]["env"].as_array_mut() {
            environment.push(json!(secret));
        }
    })?;
    mount(&attack, &folder, "/volume")?;
    Ok((attack, folder))
}

fn mount(attack: &Attack, source: &Path, destination: &str) -> Result<()> {
    let options = ["bind", "rw"];
    attack.bundle.mount(
        json!({"destination": destination, "type": "bind", "source": source, "options": options}),
    )
}

/// Makes containers while `place` of the volume and a link to each way out change places.
fn race(attack: &Attack, folder: &Path, place: &str, ways: &[String]) -> Result<()> {
    let mut made = 0;
    for way in ways {
        let link = folder.join("other");
        let _ = fs::remove_file(&link);
        symlink(way, &link)?;
        let racing = Race::between(folder.join(place), link);
        for _ in 0..ROUNDS {
            let run = attack.bundle.run()?;
            assert!(!run.stdout.contains("the host's"), "{way}: {run:?}");
            assert!(!run.stdout.contains("victim"), "{way}: {run:?}");
            assert!(!run.stdout.contains("covered"), "{way}: {run:?}");
            made += usize::from(run.code == 0);
        }
        drop(racing);
        // Whichever is at the name of the link now goes.
        let link = fs::symlink_metadata(folder.join("other"))?.is_symlink();
        fs::remove_file(folder.join(if link { "other" } else { place }))?;
        if !link {
            fs::rename(folder.join("other"), folder.join(place))?;
        }
    }
    assert_ne!(made, 0, "no container was made: what was raced with?");
    attack.failed()
}

#[test]
fn cve_2021_30465_a_volume_that_changes_while_it_is_mounted() -> Result<()> {
    let (attack, folder) = volume("place", true)?;
    let inner = attack.bundle.path("inner");
    fs::create_dir(&inner)?;
    mount(&attack, &inner, "/volume/place")?;
    let mut ways = attack.ways_out("").to_vec();
    ways.push("/".to_owned());
    race(&attack, &folder, "place", &ways)
}

#[test]
fn cve_2024_45310_mount_points_are_not_made_on_the_host() -> Result<()> {
    let (attack, folder) = volume("place", true)?;
    let (file, inner) = (attack.bundle.path("file"), attack.bundle.path("inner"));
    fs::write(&file, "")?;
    fs::create_dir(&inner)?;
    mount(&attack, &file, "/volume/place/deep/er/file")?;
    mount(&attack, &inner, "/volume/place/fold/er")?;
    race(&attack, &folder, "place", &attack.ways_out(""))
}

#[test]
fn cve_2025_31133_a_null_that_changes_while_paths_are_masked() -> Result<()> {
    let (attack, folder) = volume("null", false)?;
    attack.without_mounts("/dev")?;
    mount(&attack, &folder, "/dev")?;
    let masked = "stat -c '%n %t:%T' /masked; cat /masked; cat $SECRET; true";
    attack.bundle.args(&["sh", "-c", masked])?;
    fs::write(attack.bundle.path("rootfs/masked"), "unmasked\n")?;
    attack.bundle.change(|config| config["linux"]["maskedPaths"] = json!(["/masked"]))?;
    let link = folder.join("other");
    symlink(&attack.secret, &link)?;
    let racing = Race::between(folder.join("null"), link);
    let mut made = 0;
    for _ in 0..3 * ROUNDS {
        let run = attack.bundle.run()?;
        assert!(run.code != 0 || run.stdout == "/masked 1:3\n", "{run:?}");
        made += usize::from(run.code == 0);
    }
    drop(racing);
    assert_ne!(made, 0, "no container was made: what was raced with?");
    attack.failed()
}

#[test]
fn cve_2025_52565_a_console_that_changes_while_it_is_bound() -> Result<()> {
    let (attack, folder) = volume("console", false)?;
    attack.without_mounts("/dev")?;
    mount(&attack, &folder, "/dev")?;
    fs::create_dir(folder.join("pts"))?;
    let data = ["newinstance", "ptmxmode=0666"];
    attack.bundle.mount(
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": data}),
    )?;
    attack.bundle.args(&["sh", "-c", super::CONSOLE])?;
    attack.bundle.change(|config| config["process"]["terminal"] = json!(true))?;
    let mut ways = attack.ways_out("console").to_vec();
    ways.push("/proc/sys/kernel/core_pattern".to_owned());
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    race(&attack, &folder, "console", &ways)?;
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, pattern);
    Ok(())
}
