"""A report opened in a real browser, Debian's Chromium without a window: what is missing or broken in it."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a report must open offline
)
TIMEOUT_SECONDS = 300

#: Before anything else of the page: take down all errors, of scripts, of what does not load, of the console.
LISTEN = """<script>
const faults = [];
addEventListener("error", event => {
  const {tagName, src, href} = event.target;
  faults.push(tagName ? `${tagName} not loaded: ${src || href}`.slice(0, 200) : event.message);
}, true);
addEventListener("unhandledrejection", event => faults.push(String(event.reason)));
const consoleError = console.error;
console.error = (...said) => { faults.push(said.join(" ")); consoleError(...said); };
</script>"""

#: After the page: visit all of a Snakemake report as its buttons do, look at every picture, tell the faults.
VISIT = """<script>
const wait = () => new Promise(done => setTimeout(done, 50));
async function look(pictures, where) {
  for (const picture of pictures) {
    for (let tries = 0; !picture.complete && tries < 100; tries++) await wait();
    if (!picture.naturalWidth) faults.push(`${where}: a picture does not show`);
  }
  return pictures.length;
}
async function visit() {
  let pictures = 0;
  await wait();
  await look(document.images, "first page");
  if (typeof results !== "undefined") {
    for (const category in categories) {
      app.showCategory(category);
      await wait();
      for (const subcategory in categories[category]) {
        app.setView({navbarMode: "subcategory", category, subcategory});
        await wait();
      }
    }
    for (const path in results) {
      const {caption, data_uri, mime_type} = results[path];
      if (!caption) faults.push(`${path}: no caption`);
      app.showResultInfo(path);
      await wait();
      if (mime_type.startsWith("image/")) {
        app.setView({content: "img", contentPath: data_uri, resultPath: path});
        await wait();
        const shown = [...document.images].filter(({src}) => src === data_uri);
        if (!shown.length) faults.push(`${path}: its button shows no picture`);
        pictures += await look(shown, path);
      } else if (mime_type === "text/html") {
        app.setView({content: "html", contentPath: data_uri, resultPath: path});
        await wait();
        const page = new DOMParser().parseFromString(await (await fetch(data_uri)).text(), "text/html");
        const copies = [...page.images].map(({src}) => Object.assign(new Image(), {src}));
        pictures += await look(copies, path);
      }
    }
  }
  return pictures;
}
async function tell() {
  let pictures = 0;
  try { pictures = await visit(); } catch (error) { faults.push(String(error)); }
  await wait();
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify({faults, pictures});
  document.body.replaceChildren(told);
}
addEventListener("load", tell);
</script>"""


def visit(page: Path, folder: Path) -> tuple[list[str], int]:
    """Open a copy of an HTML page in an empty folder; return its faults and the number of results' pictures.

    A fault is an error of a script or of the console, a picture or file that does not load, or a result of a
    Snakemake report without a caption. Raises ``AssertionError`` when the browser does not come to its end.
    """
    told = told_by(page, folder, VISIT, "--disable-gpu")
    return told["faults"], told["pictures"]


def told_by(page: Path, folder: Path, script: str, *flags: str) -> dict:
    """Open a copy of an HTML page, with a script that ends it, in an empty folder; return what that tells.

    The script's last act is to put an element ``told`` with JSON in place of the page.
    """
    text = page.read_text(encoding="utf-8")
    head = re.search(r"<head[^>]*>", text)
    at = head.end() if head else 0
    copy = folder / "page.html"
    copy.write_text(f"{text[:at]}{LISTEN}{text[at:]}{script}", encoding="utf-8")
    profile = folder / "profile"
    profile.mkdir()
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom"]
    command += [f"--timeout={1000 * TIMEOUT_SECONDS}", f"--virtual-time-budget={1000 * TIMEOUT_SECONDS}"]
    done = subprocess.run(
        [*command, copy.as_uri()], capture_output=True, text=True, timeout=2 * TIMEOUT_SECONDS
    )
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert told, (
        f"the browser did not come to the end of {page}:\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    )
    return json.loads(unescape(told[1]))
