// Jest setup provided by Grafana scaffolding
import './.config/jest-setup';

import { format } from 'node:util';

// React 19 hands its work on through a channel; jsdom has none.
global.MessageChannel ??= class {
  port1 = { onmessage: null };
  port2 = { postMessage: (data) => setTimeout(() => this.port1.onmessage?.({ data })) };
};

// What React or Grafana complain about is a fault: a test that means to provoke one mocks the console itself.
const complaints = [];
beforeEach(() => {
  complaints.length = 0;
  for (const level of ['error', 'warn']) {
    jest.spyOn(console, level).mockImplementation((...args) => {
      complaints.push(`console.${level}: ${format(...args)}`);
    });
  }
});
afterEach(() => {
  expect(complaints).toEqual([]);
});
