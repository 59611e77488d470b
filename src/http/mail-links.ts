import express, { type Request, type Router } from 'express';
import type { RequestSource } from '../graphql/adaptor.ts';
import { resetPassword, verifyEmail } from '../identity/steps.ts';
import type { StepTools } from '../sessions/steps.ts';
import {
  acceptInvitationPage,
  resetPasswordPage,
  resetPasswordResult,
  verifyEmailPage,
  verifyEmailResult,
} from './pages.ts';

/** Where the links of mails lead. GET and HEAD look at nothing and use nothing up; only the form's POST does. */
export function mailLinkRouter(tools: StepTools, sourceOf: (request: Request) => RequestSource): Router {
  const router = express.Router();
  const form = express.urlencoded({ extended: false, limit: '8kb', parameterLimit: 10 });

  router
    .route('/verify-email/:token')
    .get((_request, response) => verifyEmailPage(response))
    .post(async (request, response) => {
      const { token } = request.params;
      verifyEmailResult(response, await verifyEmail(tools, sourceOf(request), { token }));
    });

  router
    .route('/reset-password/:token')
    .get((_request, response) => resetPasswordPage(response))
    .post(form, async (request, response) => {
      const { token } = request.params;
      const { newPassword } = (request.body ?? {}) as { newPassword?: unknown };
      const password = typeof newPassword === 'string' ? newPassword : '';
      const { outcome, reasons } = await resetPassword(tools, sourceOf(request), token, password);
      resetPasswordResult(response, outcome, reasons);
    });

  router.route('/accept-invitation/:token').get((_request, response) => acceptInvitationPage(response));

  return router;
}
