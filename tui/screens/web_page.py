"""The page that shows a screen in a browser. Everything it needs comes from the same address.

The font for Latin letters is textual-serve's; Chinese falls back to the system's.
"""

from html import escape
from typing import Final

from tui.text import language, say

FONT: Final = "/static/fonts/RobotoMono-VariableFont_wght.ttf"
LANGUAGE_TAGS: Final = {"en": "en", "zh": "zh-CN"}

SCRIPT: Final = """\
"use strict";
// The address worked once; it must not stay in the history.
history.replaceState(null, "", "/");
// The bell comes as a message of one byte.
const Plain = window.WebSocket;
let audio = null;
function beep() {
  audio = audio || new AudioContext();
  const tone = audio.createOscillator();
  const volume = audio.createGain();
  tone.frequency.value = 880;
  volume.gain.value = 0.2;
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.12);
}
window.WebSocket = class extends Plain {
  constructor(...address) {
    super(...address);
    this.addEventListener("message", (event) => {
      if (event.data instanceof ArrayBuffer && event.data.byteLength === 1
          && new Uint8Array(event.data)[0] === 7) {
        beep();
      }
    });
    this.addEventListener("open", () => document.querySelector(".xterm-helper-textarea").focus());
  }
};
window.addEventListener("DOMContentLoaded", () => {
  document.getElementById("again").addEventListener("click", () => window.location.reload());
});
"""

STYLE: Final = f"""\
@font-face {{ font-family: "Roboto Mono"; src: url("{FONT}"); font-weight: 100 700; }}
html, body {{ margin: 0; height: 100%; background: #14181C; color: #E6E6E6; overflow: hidden; }}
body {{ font: 18px "Roboto Mono", monospace; }}
.textual-terminal {{ position: absolute; inset: 0; }}
.over {{ position: absolute; inset: 0; display: none; z-index: 10; background: #14181C; }}
.over div {{ margin: auto; text-align: center; }}
body.-closed .over {{ display: flex; }}
button {{ font: inherit; padding: 0.5em 1.5em; margin-top: 1em; }}
"""


def page(title: str, address: str) -> str:
    """The page of a screen whose websocket is at `address`, in the present language."""
    return f"""<!DOCTYPE html>
<html lang="{LANGUAGE_TAGS[language()]}">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<link rel="preload" href="{FONT}" as="font" type="font/ttf" crossorigin>
<link rel="stylesheet" href="/static/css/xterm.css">
<link rel="stylesheet" href="/static/till.css">
<script src="/static/till.js"></script>
<script src="/static/js/textual.js"></script>
</head>
<body>
<div id="terminal" class="textual-terminal" data-font-size="16"
 data-session-websocket-url="{escape(address)}"></div>
<div class="over" role="status"><div>
<p>{escape(say("You have left the screen. What was under way is finished."))}</p>
<button type="button" id="again">{escape(say("Open it again"))}</button>
</div></div>
</body>
</html>
"""


def refusal(sentence: str) -> str:
    """A page that says why there is none."""
    return f"""<!DOCTYPE html>
<html lang="{LANGUAGE_TAGS[language()]}"><head><meta charset="utf-8"><title>{escape(sentence)}</title></head>
<body><p>{escape(sentence)}</p></body></html>
"""
