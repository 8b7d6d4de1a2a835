// The form of a certificate's page: reads the reader's file and shows what the verifier finds. It sends nothing.
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("check");
  const output = document.getElementById("result");
  const show = (kind, lines) => {
    output.className = kind;
    output.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const file = document.getElementById("bundle").files[0];
    const button = form.querySelector("button");
    if (!file) {
      show("bad", ["Choose the bundle first."]);
      return;
    }
    button.disabled = true;
    show("", ["Checking …"]);
    try {
      const policy = document.getElementById("policy").value;
      const found = await verifyBundle(file, policy, data.certificate, (lines) => show("", [`Checking … ${lines} lines`]));
      const by = found.witnesses.length ? `Witnessed by ${found.witnesses.join(" and ")}.` : "Nobody outside witnessed it.";
      if (found.ok) {
        const against = found.certificate.findings.length;
        show(against ? "bad" : "good", [
          `Yes: this certificate says what the ${found.entries} entries of the log say, and keys in the list above signed both.`,
          by, ...(against ? ["It says itself that something speaks against the halt; see the top of this page."] : []),
          ...found.said,
        ]);
      } else {
        const listed = found.problems.map((one) => `${one.where}: ${one.what}`);
        show("bad", [`NO: ${found.found} contradictions. Do not believe this certificate.`, ...listed, ...found.said]);
      }
    } catch (error) {
      show("bad", [`The check could not be made: ${error.message}`]);
    }
    button.disabled = false;
  });
}
