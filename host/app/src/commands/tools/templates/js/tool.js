const MESSAGES = "https://graph.microsoft.com/v1.0/me/messages?$top=5";

async function ask(url) {
  try {
    return await (await fetch(url)).json();
  } catch (error) {
    throw { tag: "failed", val: `Graph does not answer: ${error.message}` };
  }
}

export const toolProvider = {
  listTools() {
    return [{
      name: "list_mail",
      title: "Newest mail",
      description: "Lists the subjects of the five newest messages in your mailbox.",
      inputSchema: '{"type":"object"}',
      hints: { readOnly: true, openWorld: true },
    }];
  },

  async call(_name, _arguments, _caller) {
    const answer = await ask(MESSAGES);
    if (answer.error) throw { tag: "failed", val: answer.error.message };
    return { tag: "text", val: answer.value.map((message) => message.subject).join("\n") };
  },
};
