import { describe, expect, test } from 'vitest';
import { trustedClientAddress } from '../../src/http/client-address.ts';

describe('without trusted proxies', () => {
  const of = trustedClientAddress([]);
  test('the peer is the client, whatever it claims (LG-05)', () => {
    expect(of('203.0.113.9', '10.0.0.1')).toBe('203.0.113.9');
    expect(of('203.0.113.9', undefined)).toBe('203.0.113.9');
    expect(of(undefined, '10.0.0.1')).toBeNull();
  });
  test('one address has one spelling (LG-04)', () => {
    expect(of('::ffff:203.0.113.9', undefined)).toBe('203.0.113.9');
    expect(of('::FFFF:203.0.113.9', undefined)).toBe('203.0.113.9');
    expect(of('2001:0DB8:0000:0000:0000:0000:0000:0001', undefined)).toBe('2001:db8::1');
    expect(of('fe80::1%eth0', undefined)).toBe('fe80::1');
  });
});

describe('behind trusted proxies', () => {
  const of = trustedClientAddress(['10.0.0.0/8', '2001:db8::/32', '192.0.2.7']);
  test('the nearest address that no trusted proxy has is the client', () => {
    expect(of('10.1.1.1', '203.0.113.9')).toBe('203.0.113.9');
    expect(of('::ffff:10.1.1.1', '198.51.100.1, 203.0.113.9, 10.2.2.2')).toBe('203.0.113.9');
    expect(of('2001:db8::5', '203.0.113.9:4711')).toBe('203.0.113.9');
    expect(of('10.1.1.1', '[2a00::1]:443')).toBe('2a00::1');
    expect(of('192.0.2.7', '203.0.113.9')).toBe('203.0.113.9');
  });
  test('what the client itself put in front is not believed (LG-05)', () => {
    expect(of('10.1.1.1', '1.2.3.4, 203.0.113.9')).toBe('203.0.113.9');
    expect(of('203.0.113.9', '10.1.1.1')).toBe('203.0.113.9');
    expect(of('192.0.2.8', '1.2.3.4')).toBe('192.0.2.8');
  });
  test('nonsense ends at the last address that is one', () => {
    expect(of('10.1.1.1', 'unknown')).toBe('10.1.1.1');
    expect(of('10.1.1.1', '203.0.113.9, <script>')).toBe('10.1.1.1');
    expect(of('10.1.1.1', '')).toBe('10.1.1.1');
    expect(of('10.1.1.1', '10.3.3.3')).toBe('10.3.3.3');
  });
});
