//! The data folder: who may read it, who holds it, and the secrets beside the database.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::StoreError;

/// 32 random bytes that are wiped when dropped.
pub type Key32 = Zeroizing<[u8; 32]>;

const OWNER_ONLY: u32 = 0o600;

/// Makes the folder, readable by its owner alone, unless it exists.
pub(super) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| StoreError::file(folder, &error))
}

/// Takes the folder for this process until the file is dropped.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = open_private(&path).map_err(|error| StoreError::file(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::HeldElsewhere(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::file(&path, &error)),
    }
}

/// Opens or makes a file that only its owner may read.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(OWNER_ONLY).open(path)?;
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    Ok(file)
}

/// Replaces a file in one step: a crash leaves the old text or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // A left-over of a crash may have looser permissions or be longer.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The secret of this name, made on first use. It lives in its own file, so that a copy of the database alone is
/// worthless.
pub(super) fn secret(folder: &Path, name: &str) -> Result<Key32, StoreError> {
    let path = folder.join(format!("{name}.secret"));
    let failed = |error: io::Error| StoreError::file(&path, &error);
    match File::open(&path) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
            let mut bytes = Zeroizing::new(Vec::with_capacity(64));
            file.take(64).read_to_end(&mut bytes).map_err(failed)?;
            let bytes = <[u8; 32]>::try_from(bytes.as_slice());
            bytes.map(Zeroizing::new).map_err(|_| StoreError::BadSecret { found: size(&path), path: path.clone() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = Zeroizing::new([0; 32]);
            let filled = SystemRandom::new().fill(bytes.as_mut());
            filled.map_err(|_| failed(io::Error::other("the system gives no random bytes")))?;
            replace(&path, bytes.as_ref()).map_err(failed)?;
            Ok(bytes)
        }
        Err(error) => Err(failed(error)),
    }
}

fn size(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |found| usize::try_from(found.len()).unwrap_or(usize::MAX))
}
