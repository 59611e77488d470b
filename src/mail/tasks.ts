import type { JobHelpers, Task } from 'graphile-worker';
import { JobFailure } from '../worker/failure.ts';
import { inJob, type JobTools } from '../worker/job.ts';
import type { MailTransport } from './mail.ts';
import { type Composed, renderMail, UnwritableMail } from './render.ts';

declare global {
  namespace GraphileWorker {
    interface Tasks {
      mail__send: { id: string };
    }
  }
}

/**
 * Sends one mail of the outbox. Killed between sending and marking, it sends once more, with a new token beside the
 * old one: a mail may come twice, never not at all.
 */
export function mailTask(tools: JobTools, transport: MailTransport, publicUrl: string): Task<'mail__send'> {
  return async (payload: unknown, helpers: JobHelpers) => {
    assertPayload(payload);
    const { id } = payload;
    const composed = await inJob(tools, helpers, 'composing a mail', async (client) => {
      const { rows } = await client.query<Composed>('select * from identity.compose_mail($1)', [id]);
      return rows[0];
    });
    // Nobody to write to, or sent already by a try that was killed before its job was done.
    if (!composed) return;
    await transport.send(render(composed, publicUrl), id, helpers.abortSignal ?? new AbortController().signal);
    await inJob(tools, helpers, 'marking a mail as sent', (client) =>
      client.query('select identity.mark_mail_sent($1)', [id]),
    );
  };
}

function render(composed: Composed, publicUrl: string) {
  try {
    return renderMail(composed, publicUrl);
  } catch (error) {
    // What a template cannot write today it cannot write tomorrow.
    throw new JobFailure(`writing a mail: ${error instanceof UnwritableMail ? error.message : 'a fault'}`, 'final');
  }
}

function assertPayload(payload: unknown): asserts payload is { id: string } {
  const id = typeof payload === 'object' && payload !== null && 'id' in payload ? payload.id : undefined;
  if (typeof id !== 'string' || !/^[0-9a-f-]{36}$/.test(id))
    throw new JobFailure('mail__send needs the id of a mail', 'final');
}
