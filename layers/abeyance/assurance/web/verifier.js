// The verifier of a certificate's bundle in plain JavaScript: the same check as assurance/checking.py, without a network
// and without our system. A test holds the two together. `verifyBundle` is the way in; nothing above it touches the page.
"use strict";

const FORMAT = "abeyance-certificate-1";
const MAGIC = "abeyance-bundle-1";
const FIRST_LINE = "abeyance.certificate/v1";
const MAX_LINE_CHARACTERS = 8 * 1024 * 1024;
const MAX_PROBLEMS = 50;
const ROW = 256;
const ORDER = ["about", "from", "to", "nodes", "document", "evidence", "entry", "certificate", "note"];
const REPEATED = new Set(["document", "evidence", "entry"]);
const REQUESTS = new Set(["Upload Permitted", "Upload Halted", "Video Requested", "decision"]);
const PARTS = ["holds", "halts", "needs_authorization", "restricts", "exempts", "audited"];
const STEPPING_ASIDE = ["exempts", "audited"];
const HALTING = new Set(PARTS.slice(0, 2));
const DENYING = new Set(PARTS.slice(0, 3));
const DISCLOSABLE = ["jurisdiction", "place", "purpose", "sector", "tenant"];
const AGREED = {
  "moratorium.applied": "approved", "moratorium.tightened": "tightened", "moratorium.adopted": "adopted",
};
const PEOPLE_FIELDS = ["approvers", "note", "proposer"];
const INVOLVES = {
  detect: ["detect"], analyze: ["analyze", "detect"], compare: ["compare", "detect"], index: ["index", "detect"],
  search: ["search", "detect"], template_search: ["template_search", "search"], template_export: ["template_export"],
  template_import: ["template_import", "index"],
};
const EMPTY_FLAGS = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const SIGN = 1;
const COSIGN = 4;

// -- bytes and hashes

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  if (toBase64(bytes) !== text) throw new Error("not the canonical spelling of base64");
  return bytes;
}

function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function toHex(bytes) {
  return Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
}

function concat(...parts) {
  const made = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const one of parts) {
    made.set(one, at);
    at += one.length;
  }
  return made;
}

function equal(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

// SHA-256 of FIPS 180-4, for a browser that gives a page from a file no WebCrypto.
const CONSTANTS = (() => {
  const fractions = [];
  for (let prime = 2; fractions.length < 64; prime++) {
    let divisor = 2;
    while (divisor * divisor <= prime && prime % divisor) divisor++;
    if (divisor * divisor > prime) fractions.push(prime);
  }
  const fraction = (value) => ((value - Math.floor(value)) * 2 ** 32) | 0;
  return { round: fractions.map((one) => fraction(Math.cbrt(one))), start: fractions.slice(0, 8).map((one) => fraction(Math.sqrt(one))) };
})();

function plainSha256(message) {
  const padded = new Uint8Array(((message.length + 8) >> 6 << 6) + 64);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(message.length / 2 ** 29));
  view.setUint32(padded.length - 4, (message.length << 3) >>> 0);
  const state = Int32Array.from(CONSTANTS.start);
  const words = new Int32Array(64);
  const turn = (value, by) => (value >>> by) | (value << (32 - by));
  for (let block = 0; block < padded.length; block += 64) {
    for (let at = 0; at < 16; at++) words[at] = view.getInt32(block + 4 * at);
    for (let at = 16; at < 64; at++) {
      const low = words[at - 15];
      const high = words[at - 2];
      const one = turn(low, 7) ^ turn(low, 18) ^ (low >>> 3);
      const other = turn(high, 17) ^ turn(high, 19) ^ (high >>> 10);
      words[at] = (words[at - 16] + one + words[at - 7] + other) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let at = 0; at < 64; at++) {
      const mixed = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + CONSTANTS.round[at] + words[at]) | 0;
      const majority = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + mixed) | 0, c, b, a, (mixed + majority) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((one, at) => { state[at] = (state[at] + one) | 0; });
  }
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((one, at) => digest.setInt32(4 * at, one));
  return new Uint8Array(digest.buffer);
}

const subtle = globalThis.crypto && globalThis.crypto.subtle;

// The tools of a check: what the browser has, and a fallback. `said` tells the reader of the fallback.
const tools = {
  said: subtle ? [] : ["This browser gives the page no WebCrypto; SHA-256 is the page's own."],
  sha256: subtle
    ? async (bytes) => new Uint8Array(await subtle.digest("SHA-256", bytes))
    : async (bytes) => plainSha256(bytes),
  // Return whether a signature is good; null if this browser cannot tell.
  ed25519: async (key, signature, message) => {
    try {
      const made = await subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
      return await subtle.verify({ name: "Ed25519" }, made, signature, message);
    } catch (error) {
      return null;
    }
  },
};

const leafHash = (data) => tools.sha256(concat([0], data));
const nodeHash = (left, right) => tools.sha256(concat([1], left, right));
const hexHash = async (text) => toHex(await tools.sha256(encoder.encode(text)));

// -- canonical JSON (RFC 8785)

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

function parseCanonical(text) {
  const value = JSON.parse(text);
  if (canonical(value) !== text) throw new Error("the line is not in its one form");
  return value;
}

// -- Merkle tree (RFC 9162)

class CompactRange {
  constructor(size, nodes) {
    this.size = size;
    this.levels = new Map();
    const levels = [];
    for (let level = 0; 2 ** level <= size; level++) if (Math.floor(size / 2 ** level) % 2) levels.push(level);
    if (levels.length !== nodes.length || nodes.some((one) => one.length !== 32)) {
      throw new Error("a compact range has one node of 32 bytes for every 1 in the binary form of its size");
    }
    levels.reverse().forEach((level, at) => this.levels.set(level, nodes[at]));
  }

  async extend(leaves) {
    this.size += leaves.length;
    let row = leaves.slice();
    for (let level = 0; row.length; level++) {
      if (this.levels.has(level)) {
        row.unshift(this.levels.get(level));
        this.levels.delete(level);
      }
      if (row.length % 2) this.levels.set(level, row.pop());
      const pairs = [];
      for (let at = 0; at < row.length; at += 2) pairs.push(nodeHash(row[at], row[at + 1]));
      row = await Promise.all(pairs);
    }
  }

  async root() {
    let root = null;
    for (const level of [...this.levels.keys()].sort((one, other) => one - other)) {
      root = root ? await nodeHash(this.levels.get(level), root) : this.levels.get(level);
    }
    return root || tools.sha256(new Uint8Array());
  }
}

async function verifyInclusion(leaf, index, size, path, root) {
  if (!(Number.isSafeInteger(index) && index >= 0 && index < size)) return false;
  let [node, last, value] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (last === 0 || sibling.length !== 32) return false;
    if (node % 2 || node === last) {
      value = await nodeHash(sibling, value);
      while (node % 2 === 0 && node) [node, last] = [node / 2, Math.floor(last / 2)];
    } else {
      value = await nodeHash(value, sibling);
    }
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 && equal(value, root);
}

// -- keys, notes and the policy (C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy)

async function parseKey(text, algorithm) {
  const [name, id, ...rest] = text.split("+");
  const raw = fromBase64(rest.join("+"));
  const key = { name, id, algorithm: raw[0], bytes: raw.slice(1), text };
  const digest = await tools.sha256(concat(encoder.encode(`${name}\n`), raw));
  if (raw[0] !== algorithm || raw.length !== 33 || toHex(digest.slice(0, 4)) !== id) throw new Error(`not a key: ${text}`);
  return key;
}

async function parsePolicy(text) {
  const policy = { logs: [], retired: [], witnesses: [], groups: new Map(), certificates: [], quorum: null };
  for (const line of text.split("\n").map((one) => one.trim())) {
    const directive = line.startsWith("#abeyance:");
    if (!line || (line.startsWith("#") && !directive)) continue;
    const words = line.replace("#abeyance:", "").trim().split(/[ \t]+/);
    if (directive) {
      if (words[0] === "certificates") policy.certificates.push(await parseKey(words[1], SIGN));
      else if (words[0] === "retired") policy.retired.push({ key: await parseKey(words[1], SIGN), size: Number(words[2]) });
      else if (words[0] !== "fresh") throw new Error(`not a line of a policy: ${line}`);
    } else if (words[0] === "log") policy.logs.push(await parseKey(words[1], SIGN));
    else if (words[0] === "witness") policy.witnesses.push({ name: words[1], key: await parseKey(words[2], COSIGN) });
    else if (words[0] === "group") {
      const members = words.slice(3);
      const least = { all: members.length, any: 1 }[words[2]] || Number(words[2]);
      if (!(least >= 1 && least <= members.length)) throw new Error(`not a line of a policy: ${line}`);
      policy.groups.set(words[1], { least, members });
    } else if (words[0] === "quorum") policy.quorum = words[1];
    else throw new Error(`not a line of a policy: ${line}`);
  }
  if (policy.quorum === null) throw new Error("the policy has no quorum; write: quorum none");
  return policy;
}

function witnessed(policy, names, wanted = policy.quorum) {
  if (wanted === "none") return true;
  const group = policy.groups.get(wanted);
  if (!group) return names.has(wanted);
  return group.members.filter((member) => witnessed(policy, names, member)).length >= group.least;
}

function parseSignatures(lines) {
  return lines.map((line) => {
    const match = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line);
    if (!match) throw new Error("not a signature line");
    const value = fromBase64(match[2]);
    return { name: match[1], id: toHex(value.slice(0, 4)), value: value.slice(4) };
  });
}

function parseCheckpoint(text) {
  const end = text.indexOf("\n\n");
  const lines = text.slice(0, end).split("\n");
  const signatures = text.slice(end + 2).split("\n");
  if (end < 0 || lines.length < 3 || signatures.pop() !== "" || !signatures.length) throw new Error("not a checkpoint");
  if (!/^(0|[1-9][0-9]{0,15})$/.test(lines[1])) throw new Error("not a checkpoint: the size is no number");
  return {
    text: text.slice(0, end + 1), origin: lines[0], size: Number(lines[1]), root: fromBase64(lines[2]),
    signatures: parseSignatures(signatures),
  };
}

async function isSignedBy(note, signature, key) {
  if (signature.name !== key.name || signature.id !== key.id) return false;
  let [message, value] = [note.text, signature.value];
  if (key.algorithm === COSIGN) {
    if (value.length !== 72) return false;
    const seconds = new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0);
    [message, value] = [`cosignature/v1\ntime ${seconds}\n${message}`, value.slice(8)];
  }
  return tools.ed25519(key.bytes, value, encoder.encode(message));
}

async function anySignature(note, key) {
  let unknown = false;
  for (const signature of note.signatures) {
    const good = await isSignedBy(note, signature, key);
    if (good) return true;
    unknown = unknown || good === null;
  }
  return unknown ? null : false;
}

// -- what decided

function momentKey(text) {
  const [whole, fraction = ""] = text.replace(/Z$/, "").split(".");
  return `${whole}.${fraction.padEnd(9, "0")}`;
}

const plainKey = (key) => key.slice(key.lastIndexOf(":") + 1);

class Documents {
  constructor() {
    this.own = new Map([[EMPTY_FLAGS, new Map()]]);
    this.flags = new Map();
  }

  add(digest, flags) {
    this.own.set(digest, new Map(flags.map((one) => [one.key, one.version])));
    for (const one of flags) this.flags.set(`${one.key}@${one.version}`, one.says);
  }

  has(digest, part) {
    const own = this.own.get(digest);
    return own === undefined || own.get(part.key) === part.version;
  }

  flag(part) {
    return this.flags.get(`${plainKey(part.key)}@${part.version}`);
  }

  documented(ruling) {
    return (!ruling.digest || this.own.has(ruling.digest)) && ruling.flags.every((part) => this.flag(part));
  }
}

function readRuling(value) {
  if (value === null || typeof value !== "object" || !["permit", "deny"].includes(value.outcome)) return null;
  const ruling = {
    clause: "", action: "", as_of: "", digest: "", drift: "", fault: "", flags: [], min_similarity: null, human_review: 0,
    ...value,
  };
  ruling.flags = ruling.flags.map((part) => ({ version: "", effect: "", clause: "", ...part }));
  return ruling;
}

function partOf(ruling, flag) {
  const rank = (part) => (PARTS.includes(part.clause) ? PARTS.indexOf(part.clause) : 9);
  return ruling.flags.filter((part) => plainKey(part.key) === flag)
    .reduce((best, part) => (best === null || rank(part) < rank(best) ? part : best), null);
}

function neededFields(part, disclosed) {
  if (part === null) return [];
  const names = new Set([...(part.clause === "exempts" ? ["purpose"] : []), ...disclosed.filter((one) => DISCLOSABLE.includes(one))]);
  return [...names].sort();
}

function partContradictions(part, flag, ruling, shown) {
  const at = momentKey(ruling.as_of);
  const past = (text) => text !== undefined && momentKey(text) <= at;
  const ended = past(flag.ends);
  const actions = flag.actions.includes("all") ? null : flag.actions;
  const involved = INVOLVES[ruling.action] || [];
  const exempts = part.clause === "exempts";
  const purposes = flag.exempt_purposes || [];
  const tenants = flag.exempt_tenants || [];
  const rules = {
    "the effect is another": part.effect !== flag.effect,
    "it is not in force at that moment": !past(flag.starts) || (ended && flag.on_expiry !== "hold"),
    "it does not name the action": actions !== null && !involved.some((one) => actions.includes(one)),
    "it does not halt": DENYING.has(part.clause) && flag.effect !== "halt",
    "it is bound to no audit": part.clause === "audited" && flag.audit_max_age_days === undefined,
    "it asks for no authorisation": part.clause === "needs_authorization" && !flag.authorization_required,
    "it does not restrict": part.clause === "restricts" && flag.effect !== "restrict",
    "it is past its end, and held": part.clause === "halts" && ended,
    "it is not past its end": part.clause === "holds" && !ended,
    "it grants no exemption at that moment": exempts && (!purposes.length || past(flag.exempt_until)),
    "it does not exempt this purpose": exempts && "purpose" in shown && !purposes.includes(shown.purpose),
    "it does not exempt this tenant": exempts && "tenant" in shown && tenants.length > 0 && !tenants.includes(shown.tenant),
  };
  return Object.keys(rules).filter((what) => rules[what]).map((what) => `flag ${part.key}: ${what}`);
}

function contradictions(ruling, documents, shown) {
  const clauses = new Set(ruling.flags.map((part) => part.clause));
  const halting = [...HALTING].some((one) => clauses.has(one));
  const denying = [...DENYING].some((one) => clauses.has(one));
  const permit = ruling.outcome === "permit";
  const exempting = ruling.flags.filter((part) => part.clause === "exempts").map((part) => documents.flag(part)).filter(Boolean);
  const authorizing = exempting.some((flag) => flag.authorization_required);
  const halted = ["halted", "held"].includes(ruling.clause);
  const rules = {
    "a flag halts the request, and it was permitted": denying && permit,
    "the clause says halted, and no flag halts": halted && !halting,
    "the clause says halted, and the request was permitted": halted && permit,
    "the clause says exempted, and no flag exempts":
      ruling.clause === "exempted" && !(clauses.has("exempts") && [...clauses].every((one) => STEPPING_ASIDE.includes(one))),
    "the clause says audited, and another flag has a part":
      ruling.clause === "audited" && !(clauses.size === 1 && clauses.has("audited")),
    "the exemption needs an authorisation, and the clause says nothing of one": ruling.clause === "exempted" && authorizing,
    "the clause speaks of an authorisation, and no flag asks for one":
      ["authorized", "authorization_due"].includes(ruling.clause) && !authorizing &&
      exempting.length === ruling.flags.filter((part) => part.clause === "exempts").length,
    "the clause says restricted, and no flag restricts": ruling.clause === "restricted" && !clauses.has("restricts"),
    "the clause says permitted, and a flag has a part": ruling.clause === "permitted" && clauses.size > 0,
    "a request was permitted although no decision could be made": Boolean(ruling.fault) && permit,
    "the flags have a part, and the decision names no document": clauses.size > 0 && !ruling.digest,
    "a flag has a part, and is not in the document that decided":
      !ruling.flags.every((part) => part.key.includes(":") || documents.has(ruling.digest, part)),
  };
  const found = Object.keys(rules).filter((what) => rules[what]);
  const restricting = [];
  for (const part of ruling.flags) {
    const flag = documents.flag(part);
    if (!flag) continue;
    if (part.clause === "restricts") restricting.push(flag);
    found.push(...partContradictions(part, flag, ruling, shown));
  }
  const restricted = ruling.flags.filter((part) => part.clause === "restricts").length;
  if (ruling.clause === "restricted" && restricting.length === restricted) {
    const terms = restricting.map((one) => one.min_similarity).filter((one) => one !== undefined);
    const similarity = terms.length ? Math.max(...terms) : null;
    const review = Math.max(0, ...restricting.map((one) => one.human_review || 0));
    if (ruling.min_similarity !== similarity || ruling.human_review !== review) {
      found.push("the restriction is not that of the flags");
    }
  }
  return found;
}

// -- counts

class Tally {
  constructor(flag, unit) {
    this.flag = flag;
    this.unit = { hour: 13, day: 10 }[unit];
    this.counted = {
      entries: 0, types: {}, decisions: 0, bound: 0, requests: 0, faults: 0, drift: 0, undocumented: 0, unread: 0,
      by: [], spans: [], versions: {}, exempt_purposes: {}, shown: {}, digests: {}, first: "", last: "",
    };
    this.rows = new Map();
    this.spans = new Map();
  }

  entry(kind) {
    this.counted.entries++;
    Tally.add(this.counted.types, kind);
  }

  unread() {
    this.counted.decisions++;
    this.counted.unread++;
  }

  decision(kind, ruling, shown, documented) {
    const counted = this.counted;
    counted.decisions++;
    counted.faults += ruling.fault ? 1 : 0;
    counted.drift += ruling.drift ? 1 : 0;
    counted.undocumented += documented ? 0 : 1;
    if (ruling.digest) {
      const one = counted.digests[ruling.digest] || (counted.digests[ruling.digest] = { decisions: 0, first: ruling.as_of, last: ruling.as_of });
      one.decisions++;
      if (momentKey(ruling.as_of) < momentKey(one.first)) one.first = ruling.as_of;
      if (momentKey(ruling.as_of) > momentKey(one.last)) one.last = ruling.as_of;
    }
    const part = partOf(ruling, this.flag);
    if (part === null) return;
    counted.bound++;
    counted.requests += REQUESTS.has(kind) ? 1 : 0;
    const row = JSON.stringify([kind, ruling.action, part.clause, ruling.outcome, ruling.clause]);
    this.rows.set(row, (this.rows.get(row) || 0) + 1);
    Tally.add(counted.versions, part.version);
    const span = ruling.as_of.slice(0, this.unit);
    if (!this.spans.has(span)) this.spans.set(span, { span });
    const outcome = ruling.outcome === "deny" ? "denied" : part.clause === "exempts" ? "exempted" : "permitted";
    Tally.add(this.spans.get(span), outcome);
    if (part.clause === "exempts" && ruling.outcome === "permit") Tally.add(counted.exempt_purposes, shown.purpose || "");
    for (const [name, value] of Object.entries(shown)) Tally.add(counted.shown[name] || (counted.shown[name] = {}), value);
    if (!counted.first || momentKey(ruling.as_of) < momentKey(counted.first)) counted.first = ruling.as_of;
    if (!counted.last || momentKey(ruling.as_of) > momentKey(counted.last)) counted.last = ruling.as_of;
  }

  result() {
    const rows = [...this.rows.keys()].map((row) => JSON.parse(row));
    rows.sort((one, other) => {
      const at = one.findIndex((cell, place) => cell !== other[place]);
      return one[at] < other[at] ? -1 : 1;
    });
    this.counted.by = rows.map((row) => {
      const [type, action, part, outcome, clause] = row;
      return { type, action, part, outcome, clause, count: this.rows.get(JSON.stringify(row)) };
    });
    this.counted.spans = [...this.spans.keys()].sort().map((span) => this.spans.get(span));
    return this.counted;
  }

  static add(counts, name) {
    counts[name] = (Object.hasOwn(counts, name) ? counts[name] : 0) + 1;
  }
}

function findingsOf(certificate) {
  const { counted, stated, documents } = certificate;
  const { replay, reconciliation } = stated;
  const made = {
    drift: counted.drift > 0 || "moratorium.drift" in counted.types,
    "not-agreed": documents.some((one) => !one.agreed),
    undocumented: counted.undocumented > 0,
    unread: counted.unread > 0,
    conflict: (counted.types.conflict || 0) > 0,
    refused: (counted.types.refused || 0) > 0,
    differs: replay.different > 0,
    "not-replayed": replay.same + replay.different + replay.faults !== counted.decisions,
    "not-reconciled": reconciliation === null || !reconciliation.whole,
    gaps: reconciliation !== null && reconciliation.gaps > 0,
  };
  return Object.keys(made).filter((name) => made[name]);
}

function* differences(where, found, expected) {
  const isObject = (one) => one !== null && typeof one === "object" && !Array.isArray(one);
  if (isObject(found) && isObject(expected)) {
    for (const name of [...new Set([...Object.keys(found), ...Object.keys(expected)])].sort()) {
      yield* differences(`${where}.${name}`, found[name], expected[name]);
    }
  } else if (Array.isArray(found) && Array.isArray(expected) && found.length === expected.length) {
    for (let at = 0; at < found.length; at++) yield* differences(`${where}.${at}`, found[at], expected[at]);
  } else if (canonical(found ?? null) !== canonical(expected ?? null)) {
    yield [where, `it says ${short(found)}, and the entries say ${short(expected)}`];
  }
}

function short(value) {
  const text = canonical(value ?? null);
  return text.length <= 80 ? text : `${text.slice(0, 77)}…`;
}

// -- the check

class Check {
  constructor(policy) {
    this.policy = policy;
    this.problems = [];
    this.found = 0;
    this.last = -1;
    this.about = { flag: "", unit: "day", disclosed: [] };
    this.first = null;
    this.end = null;
    this.tree = null;
    this.waiting = [];
    this.documents = [];
    this.evidence = [];
    this.known = new Documents();
    this.start = 0;
    this.entries = 0;
    this.certificate = {};
    this.note = "";
    this.witnesses = new Set();
    this.unchecked = false;
  }

  problem(where, what) {
    this.found++;
    if (this.problems.length < MAX_PROBLEMS) this.problems.push({ where, what });
  }

  async line(name, text) {
    const at = ORDER.indexOf(name);
    const again = at === this.last && REPEATED.has(name);
    if (!again && (at <= this.last || !ORDER.slice(this.last + 1, at).every((one) => REPEATED.has(one)))) {
      throw new Error(`a line of the name ${name.slice(0, 20)} does not belong here`);
    }
    if (name !== "entry") await this.takeEntries();
    this.last = at;
    const value = parseCanonical(text);
    if (name === "entry") {
      this.waiting.push(value);
      if (this.waiting.length === ROW) await this.takeEntries();
    } else if (name === "about") {
      this.about = value;
      this.tally = new Tally(value.flag, value.unit);
    } else if (name === "from") this.first = value ? await this.checkpoint("from", value) : null;
    else if (name === "to") this.end = await this.checkpoint("to", value);
    else if (name === "nodes") await this.takeNodes(value.map(fromBase64));
    else if (name === "document") await this.takeDocument(value);
    else if (name === "evidence") await this.takeEvidence(value);
    else if (name === "certificate") this.certificate = value;
    else this.note = value;
  }

  async finish(certificate) {
    if (this.last !== ORDER.length - 1) throw new Error("the bundle is cut off");
    if (this.tree.size !== this.end.size || !equal(await this.tree.root(), this.end.root)) {
      const what = `these ${this.entries} are not those of the last checkpoint`;
      this.problem("entries", `${what}: one was left out, added, moved or changed`);
    }
    const named = new Set();
    for (const one of this.evidence) {
      if (one.shown.type === "moratorium.document") named.add(`${one.shown["body.flags"]} ${one.shown["body.document"]}`);
    }
    for (const document of this.documents) {
      if (!named.has(`${document.flags} ${await hexHash(document.text)}`)) {
        this.problem(`document ${document.flags.slice(0, 12)}`, "no entry of the log names it");
      }
    }
    await this.compare();
    await this.checkNote();
    if (certificate && canonical(certificate) !== canonical(this.certificate)) {
      this.problem("certificate", "the bundle is that of another certificate");
    }
  }

  async checkpoint(name, text) {
    const note = parseCheckpoint(text);
    let signed = false;
    const keys = [...this.policy.logs.map((key) => ({ key, size: Infinity })), ...this.policy.retired];
    for (const { key, size } of keys) {
      if (key.name !== note.origin || note.size > size) continue;
      const good = await anySignature(note, key);
      this.unchecked = this.unchecked || good === null;
      signed = signed || good === true;
    }
    if (!signed) this.problem(name, "no believed key of the log signed the checkpoint");
    if (name === "to") {
      for (const witness of this.policy.witnesses) {
        const good = await anySignature(note, witness.key);
        this.unchecked = this.unchecked || good === null;
        if (good) this.witnesses.add(witness.name);
      }
      if (!witnessed(this.policy, this.witnesses)) this.problem(name, "the checkpoint is not witnessed as the policy demands");
    }
    return note;
  }

  async takeNodes(nodes) {
    this.start = this.first ? this.first.size : 0;
    this.tree = new CompactRange(this.start, nodes);
    const expected = this.first ? this.first.root : await tools.sha256(new Uint8Array());
    if (!equal(await this.tree.root(), expected)) this.problem("nodes", "they are not those of the first checkpoint");
    if (this.first && (this.first.origin !== this.end.origin || this.first.size > this.end.size)) {
      this.problem("to", "the two checkpoints are not of one log, in this order");
    }
  }

  async takeDocument(document) {
    const flags = [];
    for (const [key, text] of document.statements) {
      flags.push({ key, text, version: (await hexHash(text)).slice(0, 12), says: JSON.parse(text) });
    }
    const whole = `{${flags.map((one) => `${JSON.stringify(one.key)}:${one.text}`).join(",")}}`;
    const values = {};
    for (const [key, value] of Object.entries(JSON.parse(document.text).values)) {
      values[key] = value.enabled ? { ...value } : { enabled: false };
      delete values[key]._createdAt;
      delete values[key]._updatedAt;
    }
    const said = Object.fromEntries(flags.map((one) => [one.key, one.says]));
    if ((await hexHash(whole)) !== document.flags || canonical(said) !== canonical(values)) {
      this.problem(`document ${document.flags.slice(0, 12)}`, "it does not say what its digest or its statements say");
    } else {
      this.known.add(document.flags, flags.filter((one) => one.says.enabled));
    }
    this.documents.push(document);
  }

  async takeEvidence(one) {
    const where = `evidence of entry ${one.index}`;
    const leaf = canonical(one.leaf);
    const hash = await leafHash(encoder.encode(leaf));
    if (!(await verifyInclusion(hash, one.index, this.end.size, one.path.map(fromBase64), this.end.root))) {
      this.problem(where, "the entry is not shown to be on the log of the last checkpoint");
    }
    await this.open(where, one.leaf, one.disclosures);
    this.evidence.push({ index: one.index, shown: Object.fromEntries(one.disclosures.map(([, field, value]) => [field, value])) });
  }

  async takeEntries() {
    if (!this.waiting.length) return;
    const taken = this.waiting.splice(0);
    const first = this.start + this.entries;
    this.entries += taken.length;
    // The hashes of all of them at once: a call of WebCrypto takes longer to come back than to work.
    const [hashes] = await Promise.all([
      Promise.all(taken.map(([leaf]) => leafHash(encoder.encode(canonical(leaf))))),
      Promise.all(taken.map(([leaf, disclosures], at) => this.open(`entry ${first + at}`, leaf, disclosures))),
    ]);
    await this.tree.extend(hashes);
    taken.forEach(([leaf, disclosures], at) => this.takeEntry(`entry ${first + at}`, leaf, disclosures));
  }

  takeEntry(where, leaf, disclosures) {
    const shown = new Map(disclosures.map(([, field, value]) => [field, value]));
    if (!shown.has("type")) {
      this.problem(where, "its type is not shown");
      return;
    }
    const kind = shown.get("type");
    this.tally.entry(kind);
    let expected = ["type"];
    if (isLeaf(leaf) && "body.decision" in leaf.commitments) expected = this.takeDecision(where, kind, leaf.commitments, shown);
    if (canonical(disclosures.map(([, field]) => field)) !== canonical(expected)) {
      this.problem(where, `it shows ${[...shown.keys()].join(", ")}, and the certificate needs ${expected.join(", ")}`);
    }
  }

  takeDecision(where, kind, commitments, shown) {
    const ruling = readRuling(shown.has("body.decision") ? shown.get("body.decision") : null);
    if (ruling === null) {
      this.tally.unread();
      return ["body.decision", "type"];
    }
    const parts = neededFields(partOf(ruling, this.about.flag), this.about.disclosed)
      .filter((name) => `body.decision.${name}` in commitments);
    const values = {};
    for (const name of parts) {
      if (shown.has(`body.decision.${name}`)) values[name] = String(shown.get(`body.decision.${name}`));
    }
    this.tally.decision(kind, ruling, values, this.known.documented(ruling));
    for (const what of contradictions(ruling, this.known, values)) this.problem(where, what);
    return ["body.decision", ...parts.map((name) => `body.decision.${name}`), "type"];
  }

  async open(where, leaf, disclosures) {
    if (!isLeaf(leaf)) {
      this.problem(where, "not an entry");
      return;
    }
    const made = await Promise.all(disclosures.map((one) => tools.sha256(encoder.encode(canonical(one)))));
    disclosures.forEach(([, field], at) => {
      if (toBase64(made[at]) !== leaf.commitments[field]) this.problem(where, `${field} is not what the entry commits to`);
    });
  }

  async compare() {
    const { certificate, end } = this;
    const first = this.first ? this.first.root : await tools.sha256(new Uint8Array());
    const expected = {
      format: FORMAT, flag: this.about.flag, unit: this.about.unit, disclosed: this.about.disclosed, log: end.origin,
      from: { size: this.start, root: toBase64(first) }, to: { size: end.size, root: toBase64(end.root) },
      documents: await this.statedDocuments(), versions: await this.versions(), counted: this.tally.result(),
    };
    for (const name of Object.keys(expected)) {
      for (const [where, what] of differences(name, certificate[name], expected[name])) this.problem(`certificate: ${where}`, what);
    }
    const extra = Object.keys(certificate).filter((name) => !(name in expected) && !["stated", "findings"].includes(name));
    if (extra.length) this.problem("certificate", `it has a part that nobody knows: ${extra.sort()[0]}`);
    let due;
    try {
      due = findingsOf(certificate);
    } catch (error) {
      this.problem("certificate: stated", "a statement is missing, or is none");
      return;
    }
    if (canonical(certificate.findings ?? null) !== canonical(due)) {
      this.problem("certificate: findings", `they have to be: ${due.join(", ") || "none"}`);
    }
  }

  async statedDocuments() {
    const entries = new Map();
    const agreements = new Map();
    for (const { index, shown } of this.evidence) {
      if (shown.type === "moratorium.document") {
        if (!entries.has(shown["body.flags"])) entries.set(shown["body.flags"], index);
      } else if (Object.hasOwn(AGREED, shown.type)) {
        const adopted = shown.type === "moratorium.adopted";
        const digest = shown[adopted ? "body.digest" : "body.flags"];
        const people = shown.type === "moratorium.tightened" ? 1 : shown["body.people"] || 0;
        const agreement = { agreed: AGREED[shown.type], agreement: index, people };
        const by = {};
        for (const name of PEOPLE_FIELDS) if (`body.${name}` in shown) by[name] = shown[`body.${name}`];
        if (Object.keys(by).length) agreement.by = by;
        if (!agreements.has(digest)) agreements.set(digest, agreement);
      }
    }
    return Promise.all(this.documents.map(async (document) => ({
      flags: document.flags,
      document: await hexHash(document.text),
      entry: entries.has(document.flags) ? entries.get(document.flags) : -1,
      ...(agreements.get(document.flags) || { agreed: "", agreement: -1, people: 0 }),
    })));
  }

  async versions() {
    const found = new Map();
    for (const document of this.documents) {
      for (const [key, text] of document.statements) {
        const version = (await hexHash(text)).slice(0, 12);
        if (key === this.about.flag && !found.has(version)) {
          found.set(version, { version, flags: document.flags, says: JSON.parse(text) });
        }
      }
    }
    return [...found.keys()].sort().map((version) => found.get(version));
  }

  async checkNote() {
    const match = /^(abeyance\.certificate\/v1\n([^\s]+)\n([A-Za-z0-9+/]{43}=)\n)\n((?:[^\n]+\n)+)$/u.exec(this.note);
    if (!match) {
      this.problem("note", "not the note of a certificate");
      return;
    }
    const note = { text: match[1], signatures: parseSignatures(match[4].trimEnd().split("\n")) };
    if (match[3] !== toBase64(await tools.sha256(encoder.encode(canonical(this.certificate))))) {
      this.problem("note", "it is the note of another certificate");
    }
    let signed = false;
    for (const key of this.policy.certificates) {
      if (key.name !== `${this.end.origin}/certificates`) continue;
      const good = await anySignature(note, key);
      this.unchecked = this.unchecked || good === null;
      signed = signed || good === true;
    }
    if (!signed || match[2] !== this.end.origin) this.problem("note", "no believed key signed the certificate");
  }
}

function isLeaf(leaf) {
  return leaf !== null && typeof leaf === "object" && leaf.format === "abeyance-entry-1" && Object.keys(leaf).length === 2 &&
    leaf.commitments !== null && typeof leaf.commitments === "object" &&
    Object.entries(leaf.commitments).every(([field, one]) => /^[ !#-[\]-~]{1,142}$/.test(field) && /^[A-Za-z0-9+/]{43}=$/.test(one));
}

async function* linesOf(stream) {
  let rest = "";
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const reader = stream.pipeThrough(new DecompressionStream("gzip")).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (done ? text.decode() : text.decode(value, { stream: true }))).split("\n");
    rest = lines.pop();
    if (rest.length > MAX_LINE_CHARACTERS) throw new Error("the line has no end, or is too long");
    yield* lines;
    if (done) break;
  }
  if (rest) throw new Error("the line has no end, or is too long");
}

// Check a bundle: `blob` is the file, `policyText` says who is believed, `certificate` is the one that it has to be of.
async function verifyBundle(blob, policyText, certificate, progress = () => {}) {
  let number = 0;
  let check = new Check(await parsePolicy(policyText));
  try {
    for await (const line of linesOf(blob.stream())) {
      number++;
      if (number === 1) {
        if (line !== MAGIC) throw new Error(`not a bundle: the first line is not ${MAGIC}`);
        continue;
      }
      const at = line.indexOf(" ");
      await check.line(line.slice(0, at), line.slice(at + 1));
      if (number % 4096 === 0) progress(number);
    }
    number++;
    await check.finish(certificate);
  } catch (error) {
    check.problem(`line ${number}`, error.message);
  }
  if (check.unchecked) {
    check.problem("signatures", "this browser cannot check Ed25519 signatures; use another one, or abeyance certify verify");
  }
  return {
    ok: check.found === 0, problems: check.problems, found: check.found, certificate: check.certificate,
    entries: check.entries, witnesses: [...check.witnesses].sort(), said: tools.said,
  };
}
