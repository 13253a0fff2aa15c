// A real OpenID Connect provider for the tests: node oidc.mjs PORT REDIRECT_URI SECRET
// Whoever names an account has it; the claims follow from the name.
import { Provider } from "oidc-provider";

const [port, redirect, secret] = process.argv.slice(2);
const client = {
  redirect_uris: [redirect],
  response_types: ["code"],
  grant_types: ["authorization_code"],
};

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    { ...client, client_id: "secryn", client_secret: secret },
    { ...client, client_id: "public", token_endpoint_auth_method: "none" },
  ],
  cookies: { keys: ["a key of the tests"] },
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  claims: {
    openid: ["sub"],
    profile: ["preferred_username"],
    email: ["email", "email_verified"],
  },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      preferred_username: id,
      email: id,
      email_verified: !id.startsWith("unverified"),
    }),
  }),
});

provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
