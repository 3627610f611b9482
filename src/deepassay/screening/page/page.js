"use strict";
const TEXT = {
  en: {
    lead: "One photo, video or recording in; a measured verdict out. The file is judged on this server and deleted at once.",
    drop: "Drop a file here, or choose one.",
    key: "API key", send: "Screen this file", limits:
      "A verdict is a measurement with a known false-alarm rate, not proof. “No evidence of manipulation” does not mean that a file is genuine: tools that the detector has never met may pass.",
    sending: "Sending and judging …", fake: "Flagged as manipulated", clear: "No evidence of manipulation", abstain: "Not judged",
    face: "Face", voice: "Voice",
    what_fake: (r) => `Of genuine files, about ${percent(r.target_bpcer)} are flagged like this one by mistake.`,
    what_clear: "The measurement stays below the threshold. That is no proof that the file is genuine.",
    what_abstain: "The detector gives no score for this file: it is neither flagged nor cleared.",
    llr: "Evidence (log-likelihood ratio)", threshold: "flagged from", rule: "Rule", right: "Flags that can be right at most",
    reason: "Reason", views: "Measured on", tracks: "face tracks", parts: "views or windows", detector: "Detector", time: "Time",
    timeline: "Score along the file (single parts, not calibrated)", seconds: "seconds",
    error: (code) => `The service answered with an error (${code}).`, busy: "The service is busy. Try again in a few seconds.",
    large: "The file is too large for this service.", locked: "An API key is needed.", offline: "The service cannot be reached.",
  },
  zh: {
    lead: "提交一张图片、一段视频或录音，得到一个可度量的结论。文件只在本服务器上分析，分析后立即删除。",
    drop: "将文件拖到此处，或选择文件。",
    key: "API 密钥", send: "开始检测", limits:
      "结论是在已知误报率下的测量结果，不是证明。“未发现篡改证据”不等于文件真实：检测器未见过的工具可能不被发现。",
    sending: "正在上传并分析……", fake: "检出疑似伪造", clear: "未发现篡改证据", abstain: "未作判定",
    face: "人脸", voice: "人声",
    what_fake: (r) => `真实文件中约有 ${percent(r.target_bpcer)} 会被误报为疑似伪造。`,
    what_clear: "测量值低于阈值。这并不证明文件真实。",
    what_abstain: "检测器对该文件不给出分数：既未标记，也未排除。",
    llr: "证据强度（对数似然比）", threshold: "标记阈值", rule: "判定规则", right: "标记中正确的最大比例",
    reason: "原因", views: "测量依据", tracks: "条人脸轨迹", parts: "个视图或时间窗", detector: "检测器", time: "耗时",
    timeline: "沿文件的分数（单个片段，未校准）", seconds: "秒",
    error: (code) => `服务返回错误（${code}）。`, busy: "服务繁忙，请几秒后重试。",
    large: "文件超过本服务的大小限制。", locked: "需要 API 密钥。", offline: "无法连接服务。",
  },
};
let language = "en";
let last = null;
const at = (id) => document.getElementById(id);
const percent = (x) => `${+(100 * x).toPrecision(2)} %`;

function make(name, text, kind) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function speak() {
  const words = TEXT[language];
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = words[node.dataset.text];
  for (const node of document.querySelectorAll("[data-language]"))
    node.setAttribute("aria-pressed", String(node.dataset.language === language));
  if (last) show(last);
}

function timeline(rows, words) {
  const NS = "http://www.w3.org/2000/svg";
  const element = (name, values, text) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const width = 640, height = 150, left = 40, bottom = 28, top = 8;
  const ends = rows.map((row) => row.end_s ?? row.start_s);
  const longest = Math.max(...ends, 1e-6);
  const scores = rows.map((row) => row.score);
  const low = Math.min(0, ...scores), high = Math.max(0, ...scores), span = high - low || 1;
  const x = (s) => left + (s / longest) * (width - left - 8);
  const y = (v) => top + ((high - v) / span) * (height - top - bottom);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words.timeline });
  svg.append(element("line", { x1: left, x2: width - 8, y1: y(0), y2: y(0), stroke: "#d5dade" }));
  for (const row of rows) {
    const from = x(row.start_s), to = x(row.end_s ?? row.start_s);
    const colour = row.score > 0 ? "#a3341f" : "#2c5f7c";
    if (to - from > 1) svg.append(element("line", { x1: from, x2: to, y1: y(row.score), y2: y(row.score), stroke: colour, "stroke-width": 3 }));
    else svg.append(element("circle", { cx: from, cy: y(row.score), r: 3.5, fill: colour }));
  }
  for (const value of [low, high]) svg.append(element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(1)));
  svg.append(element("text", { x: left, y: height - 10 }, "0"));
  svg.append(element("text", { x: width - 8, y: height - 10, "text-anchor": "end" }, `${longest.toFixed(1)} ${words.seconds}`));
  svg.append(element("text", { x: (left + width) / 2, y: height - 10, "text-anchor": "middle" }, words.timeline));
  return svg;
}

function card(verdict) {
  const words = TEXT[language];
  const kind = { fake: "fake", "no evidence of manipulation": "clear" }[verdict.decision] ?? "abstain";
  const node = make("article", undefined, kind);
  const modality = verdict.modality ? `${words[verdict.modality]}: ` : "";
  node.append(make("h2", modality + words[kind]));
  const what = words[`what_${kind}`];
  node.append(make("p", typeof what === "function" ? what(verdict.operating_point) : what, "what"));
  const list = make("dl");
  const row = (name, value) => list.append(make("dt", name), make("dd", value));
  const rule = verdict.operating_point;
  if (verdict.reason) row(words.reason, `${verdict.reason} (${verdict.status})`);
  if (verdict.llr !== null) row(words.llr, `${verdict.llr.toFixed(2)}  (${words.threshold} ${rule.threshold.toFixed(2)})`);
  if (verdict.llr !== null) row(words.rule, `${rule.name}, BPCER ${percent(rule.target_bpcer)}`);
  if (kind === "fake") row(words.right, Object.entries(rule.flags_right).map(([rate, share]) => `${percent(share)} (${rate})`).join(", "));
  if (verdict.n_views) row(words.views, `${verdict.n_views} ${words.parts}` + (verdict.modality === "face" ? `, ${verdict.n_tracks} ${words.tracks}` : ""));
  if (verdict.detector) row(words.detector, `${verdict.detector} (${verdict.bundle.slice(0, 12)})`);
  row(words.time, `${verdict.seconds.toFixed(2)} s`);
  node.append(list);
  for (const text of verdict.warnings) node.append(make("p", text, "warning"));
  if (verdict.timeline.length > 1) node.append(timeline(verdict.timeline, words));
  return node;
}

function show(verdicts) {
  last = verdicts;
  at("verdicts").replaceChildren(...verdicts.map(card));
}

async function send(event) {
  event.preventDefault();
  const words = TEXT[language];
  const file = at("file").files[0];
  if (!file) return;
  at("send").disabled = true;
  at("status").textContent = words.sending;
  last = null;
  at("verdicts").replaceChildren();
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    if (at("key").value) headers.Authorization = `Bearer ${at("key").value}`;
    const answer = await fetch("v1/screen", { method: "POST", headers, body: file });
    const body = await answer.json();
    if (answer.ok) {
      at("status").textContent = "";
      show(body.verdicts);
    } else {
      if (answer.status === 401) at("key-row").hidden = false;
      at("status").textContent = { 401: words.locked, 413: words.large, 429: words.busy }[answer.status] ?? `${words.error(answer.status)} ${body.message}`;
    }
  } catch {
    at("status").textContent = words.offline;
  } finally {
    at("send").disabled = false;
  }
}

at("form").addEventListener("submit", send);
at("file").addEventListener("change", () => { at("send").disabled = !at("file").files.length; });
for (const node of document.querySelectorAll("[data-language]"))
  node.addEventListener("click", () => { language = node.dataset.language; speak(); });
const drop = at("drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  at("file").files = event.dataTransfer.files;
  at("send").disabled = !at("file").files.length;
});
if (navigator.language.toLowerCase().startsWith("zh")) language = "zh";
speak();
