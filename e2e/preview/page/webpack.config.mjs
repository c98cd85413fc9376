// Bundles the preview's page: the shared libraries that Grafana hands to plugins, and the few parts of Grafana's own
// frontend that the plugin needs around it. Grafana's icons come from the npm package; SystemJS is loaded by its own
// script tags.
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import CopyWebpackPlugin from 'copy-webpack-plugin';
import TerserPlugin from 'terser-webpack-plugin';
import webpack from 'webpack';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '..', '..', '..');
const modules = path.join(root, 'node_modules');

// Grafana's own font files are in no package: the same typefaces under the names its stylesheet asks for.
const font = (family, file, to) => ({ from: path.join(modules, '@fontsource', family, 'files', `${file}.woff2`), to: `public/fonts/${to}.woff2` });
const fonts = [
  font('inter', 'inter-latin-400-normal', 'inter/Inter-Regular'),
  font('inter', 'inter-latin-500-normal', 'inter/Inter-Medium'),
  font('inter', 'inter-latin-400-italic', 'inter/Inter-Italic'),
  font('inter', 'inter-latin-500-italic', 'inter/Inter-MediumItalic'),
  font('roboto-mono', 'roboto-mono-latin-400-normal', 'roboto/L0xTDF4xlVMF-BfR8bXMIhJHg45mwgGEFl0_3vrtSM1J-gEPT5Ese6hmHSh0mQ'),
];

export default {
  mode: 'production',
  target: 'web',
  context: here,
  entry: './src/main.tsx',
  output: { path: path.join(here, 'dist'), filename: 'main.js', chunkFilename: 'chunk-[id].js', clean: true },
  devtool: false,
  cache: {
    type: 'filesystem',
    cacheDirectory: path.join(root, '.cache', 'preview'),
    buildDependencies: { config: [fileURLToPath(import.meta.url)] },
  },
  resolve: { extensions: ['.tsx', '.ts', '.mjs', '.js'] },
  module: {
    rules: [
      {
        test: /\.tsx?$/,
        exclude: /node_modules/,
        use: {
          loader: 'swc-loader',
          options: {
            jsc: { target: 'es2022', parser: { syntax: 'typescript', tsx: true }, transform: { react: { runtime: 'automatic' } } },
          },
        },
      },
      { test: /\.css$/, use: ['style-loader', 'css-loader'] },
      { test: /\.(svg|png|woff2?)$/, type: 'asset/resource' },
      // The libraries' ".mjs" files leave file extensions out of their imports and expect default imports to be
      // unwrapped.
      { test: /\.m?js$/, type: 'javascript/auto', resolve: { fullySpecified: false } },
    ],
  },
  optimization: { minimizer: [new TerserPlugin({ minify: TerserPlugin.swcMinify, extractComments: false })] },
  performance: { hints: false },
  plugins: [
    new CopyWebpackPlugin({
      patterns: [
        { from: 'index.html' },
        { from: path.join(modules, 'systemjs', 'dist', 'system.min.js') },
        { from: path.join(modules, 'systemjs', 'dist', 'extras', 'amd.min.js') },
        { from: path.join(modules, '@grafana', 'ui', 'dist', 'public', 'img'), to: 'public/build/img' },
        // PanelChrome's sign for a stream, the one icon it uses that the package leaves out.
        { from: 'icons', to: 'public/build/img/icons/mono' },
        ...fonts,
      ],
    }),
    // Moment's locales are not shown anywhere.
    new webpack.IgnorePlugin({ resourceRegExp: /^\.\/locale$/, contextRegExp: /moment$/ }),
  ],
  stats: 'errors-warnings',
};
