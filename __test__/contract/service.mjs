// The program in examples/service-manager, which knows the interface alone, unchanged on every backend.
import { buildSync } from 'esbuild'
import { root } from '../../scripts/run.mjs'
import { http } from '../support/http.mjs'
import { freePort } from '../support/ports.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, subject } from './kit.mjs'

async function program() {
  const { outputFiles } = buildSync({
    entryPoints: [`${root}/examples/service-manager/service.ts`],
    format: 'esm',
    write: false,
  })
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`)
}

const page = async (port) => (await http({ host: '127.0.0.1', port })).body.toString()

export const service = subject('a service, by the interface alone', (ctx, test) => {
  test('network, volume, pull, health, log, stats, restart, stop, remove', { timeout: 300_000 }, async () => {
    const { ServiceManager } = await program()
    const said = []
    const manager = new ServiceManager(ctx.adapter, (text) => said.push(text))
    const [name, image, port] = [ctx.name('service'), ctx.backend.remoteImage, await freePort()]
    const command = ['sh', '-c', 'echo served >>/data/index.html; echo up; exec httpd -f -p 80 -h /data']
    ctx.undo(() => manager.remove(name, { data: true }).catch(() => {}))
    ctx.discardImage(image)
    const id = await manager.start({ name, image, port, command, check: ['test', '-s', '/data/index.html'] })
    assert.equal(await manager.find(name), id)
    assert.ok(
      said.some((text) => /%$/.test(text)),
      'the pull was reported',
    )
    assert.ok(said.at(-1).endsWith(', healthy'), said.at(-1))
    assert.equal(await page(port), 'served\n')
    assert.equal(await manager.log(id), 'up\n')
    assert.match(await manager.usage(id), /^\d+\.\d % of a CPU, \d+\.\d MB$/)
    await manager.restart(id)
    // The volume has kept what the first run wrote. The port may take a moment longer than the health.
    assert.equal(await waitFor('the page', () => page(port)), 'served\nserved\n')
    await manager.remove(name, { data: true })
    assert.equal(await manager.find(name), undefined)
    assert.ok(!(await ctx.adapter.listNetworks()).some((network) => network.name === name))
    assert.ok(!(await ctx.adapter.listVolumes()).some((volume) => volume.name === `${name}-data`))
  })
})
