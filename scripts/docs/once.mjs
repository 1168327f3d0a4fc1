// A plugin of TypeDoc: an inherited member is described where it is declared, and not again in each class below.
import { Converter, ReflectionKind } from 'typedoc'

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_END, (context) => {
    // What ContainerAdapter declares anew TypeDoc calls inherited, since it also merges with an interface.
    const declared = (member) => {
      const parents = context.getSymbolFromReflection(member.parent)?.declarations ?? []
      return context.getSymbolFromReflection(member)?.declarations?.some(({ parent }) => parents.includes(parent))
    }
    for (const member of context.project.getReflectionsByKind(ReflectionKind.ClassMember))
      if (member.inheritedFrom && !declared(member)) context.project.removeReflection(member)
  })
}
