"""The page of a registered pair of volumes, in a real browser: it draws, and what its controls do is seen."""

import numpy as np
import pytest
import SimpleITK as sitk
from browser import CHROMIUM, told_by
from heads import head

from regagent.figures.viewer import write_viewer

#: A browser without a window draws by the processor.
BY_PROCESSOR = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")

#: Draws the page in each state of its controls, and tells the mean brightness and the picture of each.
LOOK = """<script>
const wait = () => new Promise(done => setTimeout(done, 50));
function picture() {
  view.drawScene();
  const {width, height} = view.canvas, pixels = new Uint8Array(4 * width * height);
  view.gl.readPixels(0, 0, width, height, view.gl.RGBA, view.gl.UNSIGNED_BYTE, pixels);
  return [pixels.reduce((sum, value) => sum + value, 0) / pixels.length, view.canvas.toDataURL()];
}
function set(selector, change) {
  change(document.querySelector(selector));
  document.querySelector(selector).dispatchEvent(new Event("input", {bubbles: true}));
}
async function look() {
  for (let tries = 0; !document.body.dataset.ready && tries < 400; tries++) await wait();
  const told = {shown: {after: picture()}};
  set("#blend", slider => slider.value = 100);
  told.shown.ct = picture();
  set("#blend", slider => slider.value = 0);
  told.shown.edges = picture();
  set("#edges", box => box.checked = false);
  told.shown.mr = picture();
  set("#blend", slider => slider.value = 40);
  told.shown.plain = picture();
  set("[value=before]", radio => radio.checked = true);
  told.shown.before = picture();
  told.text = document.body.innerText;
  return told;
}
addEventListener("load", async () => {
  let told = {};
  try { told = await look(); } catch (error) { faults.push(String(error)); }
  const end = document.createElement("pre");
  end.id = "told";
  end.textContent = JSON.stringify({...told, faults});
  document.body.replaceChildren(end);
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    truth = sitk.Euler3DTransform()
    truth.SetParameters((0.05, -0.04, 0.2, 14.0, -6.0, 5.0))
    mr, ct, _ = head(truth=truth)
    output = tmp_path_factory.mktemp("page") / "overlay.html"
    still = sitk.Transform(3, sitk.sitkIdentity)
    words = "Expected error: 1.0 mm <here>"
    write_viewer(mr, ct, still, truth, "ct onto mr", words, "too far off", output)
    return output


def test_the_page_needs_nothing_else(page):
    text = page.read_text()
    head, scripts = text.split("<script>", 1)
    assert "Expected error: 1.0 mm &lt;here&gt;" in head and "Not registered: too far off" in head
    assert "src=" not in head and "href=" not in head and "@import" not in head
    assert "import(" not in scripts.rsplit("<script>", 1)[1]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
def test_its_controls_change_what_it_shows(page, tmp_path):
    told = told_by(page, tmp_path, LOOK, *BY_PROCESSOR)
    assert told["faults"] == []
    pictures = {name: picture for name, (_, picture) in told["shown"].items()}
    assert len(set(pictures.values())) == len(pictures) == 6  # each state shows something else
    bright = {name: value for name, (value, _) in told["shown"].items()}
    assert min(bright.values()) > 64 + 2  # more than a black scene whose alpha is 255
    assert bright["edges"] > bright["mr"]
    assert "Expected error: 1.0 mm <here>" in told["text"]
    assert np.isfinite(list(bright.values())).all()
