// Child processes: each one in a group of its own, with its output kept, and
// ended with everything it started.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

const running = new Set();

process.on("exit", () => running.forEach((child) => end(child, "SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

function end(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended already.
  }
}

// Starts a program and waits until `ready` finds something in its output; `found`
// is what it found.
export async function start(command, args, { cwd, env, ready, within = 30_000 }) {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (output += text));
  }
  const ended = new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => {
      running.delete(child);
      resolve(`ended with ${signal ?? code}`);
    });
  });
  let over;
  void ended.then((how) => (over = how));
  const found = await until(`${command} to be ready`, within, () => {
    if (over !== undefined) throw new Error(`${command} ${args.join(" ")} ${over}:\n${output}`);
    return ready(output);
  }).catch((error) => {
    end(child, "SIGKILL");
    throw new Error(`${error.message}\n${output}`);
  });
  return {
    found,
    output: () => output,
    async stop() {
      end(child, "SIGTERM");
      const timer = setTimeout(() => end(child, "SIGKILL"), 5_000);
      await ended;
      clearTimeout(timer);
      end(child, "SIGKILL"); // what it left behind
    },
  };
}

// Waits until `look` gives something, and no longer than `within` ms.
export async function until(what, within, look) {
  const deadline = Date.now() + within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${within} ms in vain for ${what}`);
    await delay(20);
  }
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
