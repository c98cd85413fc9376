// force timezone to UTC to allow tests to work regardless of local timezone
// generally used by snapshots, but can affect specific tests
process.env.TZ = 'UTC';

const scaffold = require('./.config/jest.config');
const { grafanaESModules, nodeModulesToTransform } = require('./.config/jest/utils');

module.exports = {
  // Jest configuration provided by Grafana scaffolding
  ...scaffold,
  // Grafana's components are slow to draw in jsdom, and builds run beside the tests.
  testTimeout: 120_000,
  testMatch: [...new Set(scaffold.testMatch), '<rootDir>/dashboards/*.test.ts'],
  transform: {
    ...scaffold.transform,
    // d3-color and others ship their ES modules as .mjs, which the scaffold's pattern leaves as they are.
    '^.+\\.mjs$': Object.values(scaffold.transform)[0],
  },
  // Packages of Grafana 13.2 that are ES modules and that the scaffold does not know yet.
  transformIgnorePatterns: [nodeModulesToTransform([...grafanaESModules, '@react-hookz', '@ver0'])],
  moduleNameMapper: {
    ...scaffold.moduleNameMapper,
    // Only the generator of the boards uses it, in Node; jsdom's export conditions would choose its ES module for browsers.
    '^yaml$': require.resolve('yaml'),
  },
};
