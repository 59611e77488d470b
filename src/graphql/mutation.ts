import { context, type FieldArgs, type Step, sideEffect } from 'postgraphile/grafast';
import type { StepTools } from '../sessions/steps.ts';
import type { RequestSource } from './adaptor.ts';
import type { SafetyPinContext } from './context.ts';

/**
 * Plan of a mutation that needs TypeScript between its SQL calls. `run` gets the input and opens its own requests; what it
 * returns are the payload's fields.
 */
export function stepMutation<In extends object>(
  run: (tools: StepTools, source: RequestSource, input: In) => Promise<object>,
): (_$root: Step, args: FieldArgs) => Step {
  return (_$root, args) => {
    const $safetypin = context().get('safetypin') as Step<SafetyPinContext>;
    const $input = args.getRaw('input') as Step<In & { readonly clientMutationId?: string | null }>;
    return sideEffect([$safetypin, $input], async ([{ tools, source }, input]) => ({
      ...(await run(tools, source, input)),
      clientMutationId: input.clientMutationId ?? null,
    }));
  };
}
