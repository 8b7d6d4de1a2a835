// The certified OpenID provider "oidc-provider" over TLS on 127.0.0.1: node provider.mjs KEY CERTIFICATE CALLBACK
// It prints its issuer. GET /rotate replaces its signing key. The login name is the subject.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import { Provider } from "oidc-provider";

const [key, cert, callback] = process.argv.slice(2);
const PEOPLE = { edda: { name: "Edda", roles: ["auditor"] }, mallory: { name: "Mallory", roles: ["admin"] } };

function provider(issuer) {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const client = { redirect_uris: [callback], response_types: ["code"], grant_types: ["authorization_code"] };
  return new Provider(issuer, {
    clients: [
      { ...client, client_id: "confidential", client_secret: "shh", token_endpoint_auth_method: "client_secret_post" },
      { ...client, client_id: "public", token_endpoint_auth_method: "none" },
    ],
    claims: { openid: ["sub"], profile: ["name", "roles"] },
    conformIdTokenClaims: false, // Claims of the scope are in the ID token, as with Cognito.
    cookies: { keys: [randomUUID()] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig" }] },
    pkce: { required: () => true },
  });
}

const server = https.createServer({ key: readFileSync(key), cert: readFileSync(cert) });
server.listen(0, "127.0.0.1", () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  let answer = provider(issuer).callback();
  server.on("request", (request, response) => {
    if (request.url !== "/rotate") return answer(request, response);
    answer = provider(issuer).callback();
    return response.end();
  });
  console.log(issuer);
});
