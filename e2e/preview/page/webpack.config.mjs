// Bundles the preview's page: the shared libraries that Grafana hands to plugins, and the few parts of Grafana's own frontend that the
// plugin needs around it. Grafana's icons come from the npm package; SystemJS is loaded by its own script tags.
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import CopyWebpackPlugin from 'copy-webpack-plugin';
import TerserPlugin from 'terser-webpack-plugin';
import webpack from 'webpack';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '..', '..', '..');
const modules = path.join(root, 'node_modules');

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
      // Packages with ".mjs" files leave file extensions out of their imports.
      { test: /\.m?js$/, resolve: { fullySpecified: false } },
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
      ],
    }),
    // Moment's locales are not shown anywhere.
    new webpack.IgnorePlugin({ resourceRegExp: /^\.\/locale$/, contextRegExp: /moment$/ }),
  ],
  stats: 'errors-warnings',
};
