// Encrypt or decrypt standard input with npm's age-encryption, in one binary or armored piece.
//
//   node age.mjs keygen [--x25519]
//   node age.mjs encrypt RECIPIENT_FILE [--armor] [--passphrase]
//   node age.mjs decrypt IDENTITY_FILE [--passphrase]
//
// A file holds recipients or identities, one a line, or with --passphrase a passphrase.

import { readFileSync, writeSync } from "node:fs";
import * as age from "age-encryption";

// Little work, so that the tests are fast; it is in the file and not in the reader.
const SCRYPT_WORK_FACTOR = 10;

const [command, ...rest] = process.argv.slice(2);
const flags = new Set(rest.filter((word) => word.startsWith("--")));
const [file] = rest.filter((word) => !word.startsWith("--"));

function lines() {
  return readFileSync(file, "utf8").split("\n").filter((line) => line.trim() && !line.startsWith("#"));
}

function write(bytes) {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(1, bytes, done);
  }
}

async function keygen() {
  const make = flags.has("--x25519") ? age.generateX25519Identity : age.generateHybridIdentity;
  const identity = await make();
  return Buffer.from(`# public key: ${await age.identityToRecipient(identity)}\n${identity}\n`);
}

async function encrypt(plaintext) {
  const encrypter = new age.Encrypter();
  if (flags.has("--passphrase")) {
    encrypter.setPassphrase(lines()[0]);
    encrypter.setScryptWorkFactor(SCRYPT_WORK_FACTOR);
  } else {
    lines().forEach((recipient) => encrypter.addRecipient(recipient));
  }
  const encrypted = await encrypter.encrypt(plaintext);
  return flags.has("--armor") ? Buffer.from(age.armor.encode(encrypted)) : encrypted;
}

async function decrypt(encrypted) {
  const decrypter = new age.Decrypter();
  lines().forEach((secret) =>
    flags.has("--passphrase") ? decrypter.addPassphrase(secret) : decrypter.addIdentity(secret),
  );
  const armored = encrypted.subarray(0, 10).toString("latin1") === "-----BEGIN";
  return decrypter.decrypt(armored ? age.armor.decode(encrypted.toString("latin1")) : encrypted);
}

if (command === "keygen") {
  write(await keygen());
} else if (command === "encrypt") {
  write(await encrypt(readFileSync(0)));
} else if (command === "decrypt") {
  write(await decrypt(readFileSync(0)));
} else {
  throw new Error(`unknown command: ${command}`);
}
