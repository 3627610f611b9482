"""Model card of a bundle, in English and Chinese: a pure function of the facts in bundle.json."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deepassay.screening.site import flags_right

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "language": "English",
        "synthetic": "SYNTHETIC: trained on a corpus that this package computes. Nothing here holds for real media.",
        "uninformative": "Not informative",
        "what": "What it is",
        "modality": "Modality",
        "face": "faces",
        "voice": "voices",
        "architecture": "Network",
        "precision": "Precision of the graph",
        "views": "Views per file",
        "every": "every one",
        "pooling": "Pooling",
        "scope": "Scope",
        "judges": "Files it judges",
        "not_for": "Not for",
        "unknown": "Error rates on other corpora, generators and channels are not known from this bundle. Error rates "
        "belong to a test set: `deepassay evaluate` and `deepassay assess` report them, this card does not.",
        "data": "Training and development data",
        "split": "part",
        "real": "real",
        "fake": "fake",
        "train": "trained on",
        "dev": "chosen, calibrated and fixed on (dev)",
        "scored": "Dev files with a score: {n} of {of}",
        "seen": "Generators of fakes it was trained on",
        "none": "none",
        "decisions": "Decisions",
        "llr": "A file is flagged where its calibrated log-likelihood ratio (natural log, fake : real) is at or above "
        "the threshold. Of its flags at most the share in the last columns is right where 1 file in 10, 100 or 1,000 "
        "is fake.",
        "point": "operating point",
        "threshold": "flag from llr",
        "bpcer": "real dev files flagged (BPCER)",
        "support": "rule of 3",
        "supported": "supported",
        "unsupported": "NOT SUPPORTED: {have} independent real dev files, {need} needed",
        "refused": "Refused by the rule of 3: {name} needs {need} independent real dev files, and there were {have}.",
        "rate": "right at {rate}",
        "abstains": "When it abstains",
        "limits": "A file that goes beyond what the development files were like is not judged (status out_of_scope). "
        "Limits were learnt on {n} dev files, none of which lies beyond them. They speak of simple statistics of the "
        "file, not of what the network has learnt.",
        "no_limits": "No limits were learnt: {why}.",
        "measure": "measure",
        "least": "limit",
        "dev_least": "dev extreme",
        "dev_median": "dev median",
        "face_px": "smallest face, px (at least)",
        "sharpness": "sharpness, log10 (at least)",
        "speech_s": "speech heard, s (at least)",
        "snr_db": "level range, dB (at least)",
        "distance": "distance from dev statistics (at most)",
        "parity": "Is it still the network that was trained?",
        "graph": "On {n} views, hard ones among them, the fp32 graph and the network differ by at most {d} in the "
        "logit.",
        "files": "On {n} files, from file to decision, this bundle ({p}) and the network in PyTorch differ by at most "
        "{d} in the logit of a view; decisions that flip: {flips}; change of EER: {eer}.",
        "size": "Size of the graph: {graph} MB; of the bundle: {bundle} MB.",
        "no_eer": "not measured (one class)",
        "lossy": "The training store was lossy: logits differ by up to {d} from those of the files.",
        "lossless": "The training store was lossless.",
        "licences": "Licence chain",
        "link": "link",
        "kind": "kind",
        "licence": "licence",
        "commercial": "commercial use",
        "identity": "Identity",
        "hashes": "`bundle.json` holds the SHA-256 of every file, and its own SHA-256 is the identity of the bundle: "
        "`deepassay bundle verify`. With its maker's public key: `deepassay bundle verify --key`.",
        "manifests": "Manifests",
    },
    "zh": {
        "language": "中文",
        "synthetic": "合成数据：在本软件自行计算的语料上训练。此处内容不适用于真实媒体。",
        "uninformative": "无信息量",
        "what": "基本信息",
        "modality": "模态",
        "face": "人脸",
        "voice": "人声",
        "architecture": "网络",
        "precision": "计算图精度",
        "views": "每个文件的视图数",
        "every": "全部",
        "pooling": "汇总规则（原文）",
        "scope": "适用范围",
        "judges": "可判定的文件",
        "not_for": "不适用于（原文）",
        "unknown": "本模型包不能说明在其他语料、生成方法和传输信道上的错误率。错误率属于测试集："
        "由 `deepassay evaluate` 和 `deepassay assess` 报告，本卡片不报告。",
        "data": "训练与开发数据",
        "split": "部分",
        "real": "真实",
        "fake": "伪造",
        "train": "训练",
        "dev": "选择、校准与定阈（开发集）",
        "scored": "有分数的开发文件：{n} / {of}",
        "seen": "训练中见过的生成方法",
        "none": "无",
        "decisions": "判定",
        "llr": "当校准后的对数似然比（自然对数，伪造 : 真实）不低于阈值时标记。"
        "最后几列为：当每 10、100、1,000 个文件中有 1 个伪造时，标记中正确者的最大比例。",
        "point": "工作点",
        "threshold": "标记阈值（llr）",
        "bpcer": "被标记的真实开发文件（BPCER）",
        "support": "三倍法则",
        "supported": "有支持",
        "unsupported": "无支持：独立真实开发文件 {have} 个，需要 {need} 个",
        "refused": "按三倍法则拒绝：{name} 需要 {need} 个独立真实开发文件，只有 {have} 个。",
        "rate": "{rate} 时正确",
        "abstains": "何时不作判定",
        "limits": "超出开发文件特征范围的文件不作判定（状态 out_of_scope）。界限由 {n} 个开发文件得出，"
        "其中没有一个超出界限。界限针对文件的简单统计量，而不是网络所学的内容。",
        "no_limits": "没有学习界限：{why}。",
        "measure": "度量",
        "least": "界限",
        "dev_least": "开发集极值",
        "dev_median": "开发集中位数",
        "face_px": "最小人脸，像素（不小于）",
        "sharpness": "清晰度，log10（不小于）",
        "speech_s": "语音时长，秒（不小于）",
        "snr_db": "电平范围，dB（不小于）",
        "distance": "与开发集统计量的距离（不大于）",
        "parity": "它仍是训练得到的网络吗？",
        "graph": "在 {n} 个视图（含困难输入）上，fp32 计算图与网络的 logit 最多相差 {d}。",
        "files": "在 {n} 个文件上，从文件到判定，本模型包（{p}）与 PyTorch 网络的单视图 logit 最多相差 {d}；"
        "判定改变：{flips}；等错误率变化：{eer}。",
        "size": "计算图大小：{graph} MB；模型包大小：{bundle} MB。",
        "no_eer": "未测量（只有一类）",
        "lossy": "训练数据以有损方式保存：与原文件的 logit 最多相差 {d}。",
        "lossless": "训练数据以无损方式保存。",
        "licences": "许可链",
        "link": "环节",
        "kind": "类别",
        "licence": "许可（原文）",
        "commercial": "商业使用",
        "identity": "身份",
        "hashes": "`bundle.json` 记录每个文件的 SHA-256，其自身的 SHA-256 即模型包的身份："
        "`deepassay bundle verify`。持有制作者公钥时：`deepassay bundle verify --key`。",
        "manifests": "清单",
    },
}


def render_card(facts: Mapping[str, Any]) -> str:
    """Markdown: the card in English, then in Chinese.

    Args:
        facts: of bundle.json, with what `export.export_bundle` leaves in ``provenance`` where it made the bundle.
    """
    lines = [f"# {_inline(facts['name'])}", "", "[English](#english) · [中文](#中文)", ""]
    for language in WORDS:
        lines += [f"## {WORDS[language]['language']}", "", *_section(facts, WORDS[language], language)]
    return "\n".join(lines).rstrip() + "\n"


def _section(facts: Mapping[str, Any], w: Mapping[str, str], language: str) -> list[str]:
    from deepassay.modality.views import EVERY

    calibration, provenance = facts["calibration"], facts["provenance"]
    views = w["every"] if facts["views"] >= EVERY else str(facts["views"])
    out: list[str] = []
    if facts["synthetic"]:
        out += [f"**{w['synthetic']}**", ""]
    if not calibration["informative"]:
        out += [f"**{w['uninformative']}: {_inline(calibration['warning'])}**", ""]
    out += [
        f"### {w['what']}",
        "",
        f"- {w['modality']}: {w[facts['modality']['name']]}",
        f"- {w['architecture']}: {_inline(facts['architecture'])}",
        f"- {w['precision']}: {facts['precision']}",
        f"- {w['views']}: {views}",
        f"- {w['pooling']}: {_inline(facts['pooling'])}",
        "",
        f"### {w['scope']}",
        "",
        _inline(facts["scope"]["statement"]) if language == "en" else _statement_zh(facts),
        "",
        f"- {w['judges']}: {', '.join(facts['scope']['media'])}",
        *(f"- {w['not_for']}: {_inline(text)}" for text in facts["scope"]["not_for"]),
        "",
        w["unknown"],
        "",
        f"### {w['data']}",
        "",
        *_data(facts, w),
        f"### {w['decisions']}",
        "",
        *_points(facts, w),
        f"### {w['abstains']}",
        "",
        *_limits(facts["abstention"], w),
        f"### {w['parity']}",
        "",
        *_parity(provenance, w),
        f"### {w['licences']}",
        "",
        *_table(
            [w["link"], w["kind"], w["licence"], w["commercial"]],
            [
                [link["name"], link.get("kind") or "", link["licence"], link.get("commercial") or "unknown"]
                for link in facts["licence_chain"]
            ],
        ),
        f"### {w['identity']}",
        "",
        w["hashes"],
        "",
        *(f"- {w['manifests']}, {_inline(name)}: `{digest}`" for name, digest in facts["manifest_sha256s"].items()),
        "",
    ]
    return out


def _statement_zh(facts: Mapping[str, Any]) -> str:
    data = facts["provenance"].get("data")
    kind = WORDS["zh"][facts["modality"]["name"]]
    if not data:
        return f"检测被篡改的{kind}。详细说明见英文部分。"
    media = {"image": "图像", "video": "视频", "audio": "录音"}
    seen = facts["generators_seen"]
    forged = [name.removeprefix("forged/") for name in seen if name.startswith("forged/")]
    made = f"，并在训练中由真实样本制作伪造样本（{'、'.join(map(_inline, forged))}）" if forged else ""
    return (
        f"检测被篡改的{kind}。训练数据为 {_inline(data['corpus'])} 的 {data['train']['real']} 个真实样本和 "
        f"{data['train']['fake']} 个伪造样本（{'、'.join(media[m] for m in data['media'])}），"
        f"含 {len(seen) - len(forged)} 种生成方法{made}。"
        f"权重、校准和阈值由同一语料的 {data['dev']['real'] + data['dev']['fake']} 个开发样本确定。"
    )


def _data(facts: Mapping[str, Any], w: Mapping[str, str]) -> list[str]:
    data = facts["provenance"].get("data")
    seen = ", ".join(map(_inline, facts["generators_seen"])) or w["none"]
    out = []
    if data:
        rows = [[w[part], data[part]["real"], data[part]["fake"]] for part in ("train", "dev")]
        out += _table([w["split"], w["real"], w["fake"]], rows)
        out.append("- " + w["scored"].format(n=data["dev_scored"], of=sum(data["dev"].values())))
    return [*out, f"- {w['seen']}: {seen}", ""]


def _points(facts: Mapping[str, Any], w: Mapping[str, str]) -> list[str]:
    points = facts["operating_points"]
    rows = []
    for point in points:
        have, need = min(point["n_real"], point["n_clusters"]), needed(point["target_bpcer"])
        right = flags_right(point["target_bpcer"])
        rows.append(
            [
                point["name"],
                f"{point['threshold']:.3f}",
                f"{100 * point['realised_bpcer']:.2g} % (n = {point['n_real']})",
                w["supported"] if point["supported"] else w["unsupported"].format(have=have, need=need),
                *(f"{100 * share:.1f} %" for share in right.values()),
            ]
        )
    rates = list(flags_right(0.05))
    head = [w["point"], w["threshold"], w["bpcer"], w["support"], *(w["rate"].format(rate=rate) for rate in rates)]
    out = [w["llr"], "", *(_table(head, rows) if rows else [])]
    for target in refused_targets(points):
        have = min(min(point["n_real"], point["n_clusters"]) for point in points)
        name = f"bpcer_{100 * target:.10g}"
        out += [w["refused"].format(name=name, need=needed(target), have=have), ""]
    return out


def needed(target_bpcer: float) -> int:
    """Independent real dev files that the rule of 3 asks of a false-alarm rate."""
    return math.ceil(3 / target_bpcer - 1e-9)


def refused_targets(points: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of the false-alarm rates 5, 1 and 0.1 %, those without an operating point because of the rule of 3."""
    if not points:
        return []
    have = min(min(point["n_real"], point["n_clusters"]) for point in points)
    fixed = [point["target_bpcer"] for point in points]
    return [t for t in (0.05, 0.01, 0.001) if have < needed(t) and not any(math.isclose(t, other) for other in fixed)]


def _limits(limits: Mapping[str, Any], w: Mapping[str, str]) -> list[str]:
    rows = [[w[one["name"]], *_numbers(one, "least", "dev_least", "dev_median")] for one in limits["limits"]]
    if limits["distance"]:
        rows.append([w["distance"], *_numbers(limits["distance"], "most", "dev_most", "dev_median")])
    if not rows:
        return [w["no_limits"].format(why=_inline(limits["missing"])), ""]
    head = [w["measure"], w["least"], w["dev_least"], w["dev_median"]]
    return [w["limits"].format(n=limits["n_files"]), "", *_table(head, rows)]


def _numbers(values: Mapping[str, Any], *keys: str) -> list[str]:
    return [f"{values[key]:.3g}" for key in keys]


def _parity(provenance: Mapping[str, Any], w: Mapping[str, str]) -> list[str]:
    out = []
    graph, files = provenance.get("parity"), provenance.get("parity_over_files")
    if graph:
        out.append("- " + w["graph"].format(n=graph["n_inputs"], d=f"{graph['max_difference']:.2g}"))
        lossy = graph.get("store_difference")
        out.append("- " + (w["lossy"].format(d=f"{lossy:.2g}") if lossy else w["lossless"]))
    if files:
        change = files["eer_change"]
        flips = ", ".join(f"{n} ({name})" for name, n in sorted(files["flips"].items())) or w["none"]
        eer = w["no_eer"] if change is None else f"{100 * change:+.2f} %"
        d = f"{files['max_logit_difference']:.2g}"
        out.append("- " + w["files"].format(n=files["n_files"], p=files["precision"], d=d, flips=flips, eer=eer))
        sizes = {key: f"{files[f'{key}_bytes'] / 1e6:.1f}" for key in ("graph", "bundle")}
        out.append("- " + w["size"].format(**sizes))
    return [*(out or [f"- {w['none']}"]), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    def line(row: Sequence[Any]) -> str:
        return "| " + " | ".join(_inline(cell) for cell in row) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _inline(value: Any) -> str:
    """Text that stays in its line and cell, whatever a corpus called itself."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
