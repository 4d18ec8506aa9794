"""The pages in a real browser, by keys alone, while a real proxy holds a call."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from asks.test_asking_a_host import ASKING, SCRIPT, answer, send
from fidelity.rig import Rig, at
from needs import need, need_command
from web.test_ui_process import Ui

FOLDER = Path(__file__).parent.parent / "browser"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"


def test_a_question_that_comes_by_itself_is_answered_by_keys_and_every_open_page_tells(tmp_path: Path) -> None:
    node = need_command("node")
    browser = os.environ.get("SOOTHSAYER_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    ready = browser is not None and (FOLDER / "node_modules" / "playwright-core").exists()
    need("browser", found=ready, remedy="install chromium, then make browser")
    with (
        Rig(tmp_path, SCRIPT, policy=ASKING) as rig,
        Ui(tmp_path) as ui,
        tempfile.TemporaryDirectory(prefix="sth-", dir="/tmp", ignore_cleanup_errors=True) as short,
    ):
        rig.host.initialize()
        command = [node, "pages.mjs", str(browser), ui.link]
        # In folders of its own: a browser that ran here before left settings behind. It makes a socket in the second,
        # and the name of a socket may not be long.
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": short}
        with subprocess.Popen(
            command, cwd=FOLDER, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as person:
            try:
                assert person.stdout is not None
                first = person.stdout.readline()
                if first.strip() == "ready":
                    name = send(rig, to="ann", note=HOSTILE)
                    assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
                told, trouble = person.communicate(timeout=60)
            finally:
                person.kill()
        assert (first.strip(), person.returncode) == ("ready", 0), trouble
    seen = json.loads(told)
    assert "No question is open" in seen["empty"]
    assert seen["badge"] == "1"
    assert HOSTILE.replace("\u202e", "\\u202e") in seen["args"]
    assert "allowed, once" in seen["notice"]
    assert ("already decided: yes" in seen["other"]["text"], seen["other"]["forms"]) == (True, 0)
    picture = seen["picture"]
    assert (picture["bars"], picture["intents"], picture["waits"]) == (1, 1, 1)
    assert picture["background"] not in {"rgb(0, 0, 0)", ""}  # The one sheet was applied.
    assert (seen["console"], seen["elsewhere"], seen["dialogs"]) == ([], [], 0)
