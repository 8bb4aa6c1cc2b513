"""A page to read rollouts: searched by text and problem, sorted by reward, length or step; one file, no network."""

import json
from pathlib import Path
from typing import Any

from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.page import escape, page
from megatron_mimo.rl.rollout_log import read_rollout_file, rollout_files

MAX_ROLLOUTS = 1000
MAX_BYTES = 4_300_000
"""Of the responses in the page; longer ones lose their middle first."""
STYLE = """
form { display: flex; gap: .6rem; flex-wrap: wrap; position: sticky; top: 0; background: var(--paper);
  padding: .6rem 0; }
input[type=search] { flex: 1; min-width: min(100%, 14rem); }
input, select { font: inherit; padding: .3rem .5rem; max-width: 100%; }
article { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; margin: .7rem 0;
  padding: .6rem .9rem; }
article.right { border-left: 4px solid var(--good); } article.wrong { border-left: 4px solid var(--bad); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; padding: 0; border: 0; }
.asked, .facts { color: var(--ink-soft); } .facts { font-size: .82rem; } .facts b { color: var(--ink); }
"""
SCRIPT = """
const data = JSON.parse(document.getElementById('data').textContent), shown = 50;
const $ = id => document.getElementById(id);
const order = {
  newest: (a, b) => b.step - a.step || a.launch - b.launch || a.sample - b.sample,
  best: (a, b) => (b.reward ?? -1e9) - (a.reward ?? -1e9),
  worst: (a, b) => (a.reward ?? 1e9) - (b.reward ?? 1e9),
  longest: (a, b) => b.length - a.length,
  surest: (a, b) => (b.logprob ?? -1e9) - (a.logprob ?? -1e9),
  problem: (a, b) => a.problem < b.problem ? -1 : a.problem > b.problem ? 1 : a.step - b.step,
};
function add(parent, name, text, kind) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.textContent = text;
  parent.append(element);
  return element;
}
function marked(element, text, words) {
  const low = text.toLowerCase();
  let from = 0;
  for (let at = words ? low.indexOf(words) : -1; at >= 0; at = low.indexOf(words, from)) {
    element.append(text.slice(from, at));
    add(element, 'mark', text.slice(at, at + words.length));
    from = at + words.length;
  }
  element.append(text.slice(from));
}
function draw() {
  const words = $('text').value.toLowerCase(), problem = $('problem').value, only = $('only').value;
  const found = data.rollouts.filter(r => (!problem || r.problem === problem)
    && (only !== 'cut' || r.finish === 'length') && (only !== 'right' || r.solved)
    && (only !== 'wrong' || r.solved === false)
    && (!words || (r.response + ' ' + data.prompts[r.problem]).toLowerCase().includes(words)));
  found.sort(order[$('order').value]);
  $('count').textContent = found.length + ' of ' + data.rollouts.length;
  const list = $('list');
  list.replaceChildren();
  for (const r of found.slice(0, shown)) {
    const box = add(list, 'article', '', r.solved ? 'right' : 'wrong');
    const facts = add(box, 'div', '', 'facts');
    add(facts, 'b', r.problem);
    facts.append(` step ${r.step}, sample ${r.sample}, reward ${r.reward}, ${r.length} tokens, ${r.outcome}`
      + (r.finish === 'length' ? ', CUT at the budget' : '')
      + (r.logprob == null ? '' : `, mean log-probability ${r.logprob}`)
      + (r.more ? ', ' + r.more : ''));
    add(box, 'pre', data.prompts[r.problem], 'asked');
    marked(add(box, 'pre', ''), r.response, words);
  }
  if (found.length > shown) add(list, 'p', `The first ${shown} are shown; search to narrow.`);
}
for (const id of Object.keys(data.prompts).sort()) add($('problem'), 'option', id).value = id;
for (const id of ['text', 'problem', 'only', 'order']) $(id).addEventListener('input', draw);
document.querySelector('form').addEventListener('submit', event => event.preventDefault());
draw();
"""


def write_rollout_page(output_dir: Path) -> Path | None:
    """Write `<output_dir>/rollouts.html` from the newest rollout files; None where there are none."""
    rows = newest_rows(output_dir)
    if not rows:
        return None
    steps = sorted({row["step"] for row in rows})
    left_out = (
        f" {sum(row['is_cut'] for row in rows)} long ones lack their middle." if any(r["is_cut"] for r in rows) else ""
    )
    note = (
        f"{len(rows):,} responses of steps {steps[0]} to {steps[-1]}, the newest of the run; all with tokens and "
        f"log-probabilities are in rollouts/.{left_out}"
    )
    content = {
        "prompts": {row["problem"]: row["prompt"] for row in rows},
        "rollouts": [{key: value for key, value in row.items() if key not in ("prompt", "is_cut")} for row in rows],
    }
    data = in_page(content)
    options = "".join(
        f"<option>{name}</option>" for name in ("newest", "best", "worst", "longest", "surest", "problem")
    )
    kinds = "".join(
        f"<option value={value}>{text}</option>"
        for value, text in (("all", "all"), ("right", "solved"), ("wrong", "not solved"), ("cut", "cut at the budget"))
    )
    title = f"{output_dir.name}: rollouts"
    body = (
        f"<h1>{escape(title)}</h1><p class=soft>{escape(note)}</p><form><input type=search id=text placeholder='text'>"
        f"<select id=problem><option value=''>all problems</option></select><select id=only>{kinds}</select>"
        f"<select id=order>{options}</select><span id=count></span></form><div id=list></div>"
        f"<script type='application/json' id=data>{data}</script><script>{SCRIPT}</script>"
    )
    path = output_dir / "rollouts.html"
    write_text(path, page(title, [body], STYLE), errors="replace")
    return path


def newest_rows(output_dir: Path) -> list[dict[str, Any]]:
    """Up to MAX_ROLLOUTS responses of the newest steps, shortened so that all fit into MAX_BYTES."""
    rows: list[dict[str, Any]] = []
    for path in reversed(rollout_files(output_dir)):
        rows += list(read_rollout_file(path))[: MAX_ROLLOUTS - len(rows)]
        if len(rows) == MAX_ROLLOUTS:
            break
    most = fitting_length([num_bytes(row["response"]) for row in rows])
    return [page_row(row, most) for row in rows]


def fitting_length(sizes: list[int]) -> int:
    """The largest length to which all can be cut so that together they take MAX_BYTES at most."""
    left, waiting = MAX_BYTES, len(sizes)
    for size in sorted(sizes):
        if size * waiting > left:
            return left // waiting
        left, waiting = left - size, waiting - 1
    return max(sizes, default=0)


def num_bytes(text: str) -> int:
    """What a text takes in the page."""
    return len(in_page(text).encode(errors="replace"))


def in_page(content: Any) -> str:
    """JSON for a script element. A response may hold a closing tag: no `<` of it reaches the page's markup."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def page_row(row: dict[str, Any], most: int) -> dict[str, Any]:
    response, size = row["response"], num_bytes(row["response"])
    is_cut = size > most
    if is_cut:
        half = int(0.49 * len(response) * most / size)
        response = f"{response[:half]}\n[... {len(response) - 2 * half:,} characters ...]\n{response[-half:]}"
    logprobs, details = row["rollout_logprobs"], row["details"]
    facts = [f"{name} {value:.3g}" for name, value in row["parts"].items()]
    facts += [details["verdict"]] if "verdict" in details else []
    facts += ["tests " + "".join("+" if one else "-" for one in details["tests"])] if "tests" in details else []
    facts += [f"expected {row['answer']}"] if row["answer"] else []
    return {
        "step": row["step"],
        "problem": row["problem"],
        "prompt": row["prompt"],
        "launch": row["launch"],
        "sample": row["sample"],
        "outcome": row["outcome"],
        "response": response,
        "is_cut": is_cut,
        "reward": row["reward"] if row["reward"] is None else round(row["reward"], 4),
        "solved": row["solved"],
        "finish": row["finish_reason"],
        "length": len(row["tokens"]),
        "logprob": round(sum(logprobs) / len(logprobs), 3) if logprobs else None,
        "more": ", ".join(facts),
    }
