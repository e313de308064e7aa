// Drives Chromium over WebDriver: see `.ci/page`.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import http from "node:http";

const [driver, front, admin, token, profile, shots] = process.argv.slice(2);
const PATIENCE = 30_000;

// Traffic.
const agent = new http.Agent({ keepAlive: true });
const send = (path, { method = "GET", body, headers } = {}) => new Promise((resolve, reject) => {
    const request = http.request(`http://${front}${path}`, { method, headers, agent }, (response) => {
        response.resume();
        response.on("end", () => resolve(response)).on("error", reject);
    });
    request.on("error", reject).end(body);
});
const call = { method: "POST", body: '{"jsonrpc":"2.0","id":1,"method":"initialize"}', headers: { "content-type": "application/json" } };
for (let each = 0; each < 40; each += 1) await send(each % 8 === 0 ? "/status/404" : "/echo");
await send("/tools", call);
const prices = send("/prices");
const slow = [7, 8, 9].map((seconds) => send(`/slow?seconds=${seconds}`));
// Silent, so that the proxy closes it while it drains.
await send("/");

// The browser.
const wire = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${driver}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${value.message}`);
    return value;
};
const args = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,1130", `--user-data-dir=${profile}`,
];
const alwaysMatch = {
    browserName: "chrome",
    "goog:chromeOptions": { args },
    "goog:loggingPrefs": { browser: "ALL", performance: "ALL" },
};
const { sessionId } = await wire("POST", "/session", { capabilities: { alwaysMatch } });
const session = `/session/${sessionId}`;
const run = (script, ...given) => wire("POST", `${session}/execute/sync`, { script, args: given });
const eventually = async (what, script, ...given) => {
    const end = Date.now() + PATIENCE;
    for (;;) {
        const found = await run(script, ...given);
        if (found) return found;
        assert.ok(Date.now() < end, `${what}: not within ${PATIENCE} ms`);
        await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
};
const element = async (selector) => Object.values(await wire("POST", `${session}/element`, { using: "css selector", value: selector }))[0];
const click = async (selector) => wire("POST", `${session}/element/${await element(selector)}/click`, {});
const type = async (selector, text) => wire("POST", `${session}/element/${await element(selector)}/value`, { text });
const scheme = (value) => wire("POST", `${session}/goog/cdp/execute`, {
    cmd: "Emulation.setEmulatedMedia", params: { features: [{ name: "prefers-color-scheme", value }] },
});
const shoot = async (name, colours) => {
    if (!shots) return;
    mkdirSync(shots, { recursive: true });
    await scheme(colours);
    writeFileSync(`${shots}/${name}.png`, Buffer.from(await wire("GET", `${session}/screenshot`), "base64"));
};
const text = (selector) => run("return document.querySelector(arguments[0]).textContent", selector);

try {
    await wire("POST", `${session}/url`, { url: `http://${admin}/` });

    // Live.
    const rows = "return [...document.querySelectorAll('#connections tbody tr')].map((row) => row.textContent)";
    await eventually("three slow requests in the table", `const rows = (() => { ${rows} })(); return rows.filter((row) => row.includes('GET /slow')).length === 3`);
    assert.equal(await text("#phase"), "ready");
    const { plan } = await (await fetch(`http://${admin}/status`)).json();
    const names = await run("return [...document.querySelectorAll('#plan .node')].map((node) => node.dataset.step)");
    assert.deepEqual(names, plan.steps.map((step) => step.name));
    const edges = await run("return document.querySelectorAll('#plan .edge').length");
    assert.equal(edges, plan.steps.flatMap((step) => step.after).length);
    assert.match(await text("#upstreams"), /http:\/\/127\.0\.0\.1:9not failingopen5\d s/);
    await eventually("a listener of the feed", "return /\\/pricesopen1/.test(document.querySelector('#feeds').textContent)");
    assert.match(await text("#programs"), /\/toolssh.*1101/);
    await shoot("live", "dark");

    // A wrong token is told, the right one drains.
    await click("#drain");
    await type("#token", "not-the-right-token");
    await click("#confirm");
    await eventually("the wrong token is refused", "return document.querySelector('#ask-error').textContent.includes('wrong token')");
    await run("document.querySelector('#token').value = ''");
    await type("#token", token);
    await click("#confirm");
    const state = "return document.querySelector(`#steps tr[data-path='${arguments[0]}']`)?.cells[1].textContent.includes(arguments[1])";
    await eventually("the lame duck", state, "lame_duck", "running");
    await eventually("it drains", state, "connections", "running");
    await eventually("who is waited for", "return document.querySelector(`#steps tr[data-path='connections']`).cells[5].textContent.includes('3 connections: 127.0.0.1:')");
    assert.equal(await text("#phase"), "draining");

    // What was begun is finished; the page stays.
    for (const answer of await Promise.all([prices, ...slow])) assert.equal(answer.statusCode, 200);
    await eventually("the end", "return !document.querySelector('#banner').hidden && document.querySelector('#banner').textContent.includes('ended')");
    const ended = await run("return [...document.querySelectorAll('#steps tbody tr')].map((row) => [row.dataset.path, row.cells[1].textContent, Number(row.querySelector('.bar').getAttribute('width'))])");
    const admins = plan.steps.findIndex((step) => step.name === "admin");
    const told = plan.steps.slice(0, admins).map((step) => step.name);
    for (const name of ["lame_duck", "main", ...told]) {
        const row = ended.find(([path]) => path === name);
        assert.ok(row && /done|nothing to clean/.test(row[1]) && row[2] > 0, `${name}: ${JSON.stringify(row)}`);
    }
    assert.ok(told.length > 5, told.join());
    await shoot("shutdown", "light");

    const complaints = await wire("POST", `${session}/se/log`, { type: "browser" });
    const expected = ({ message }) => message.includes("/drain") && message.includes("401");
    assert.deepEqual(complaints.filter((entry) => !expected(entry)), []);
    const asked = (await wire("POST", `${session}/se/log`, { type: "performance" }))
        .map((entry) => JSON.parse(entry.message).message)
        .filter(({ method }) => method === "Network.requestWillBeSent")
        .map(({ params }) => params.request.url)
        .filter((url) => !/^(chrome|data):/.test(url));
    assert.ok(asked.length >= 3, JSON.stringify(asked));
    assert.deepEqual(asked.filter((url) => !url.startsWith(`http://${admin}/`)), []);
    console.log(`the page showed ${names.length} steps, ${ended.length} rows and ${asked.length} requests, all to the proxy: 1 passed, 0 failed`);
} finally {
    await wire("DELETE", session).catch(() => {});
}
