import type { ComponentChildren } from 'preact';

/**
 * The little Markdown that policy texts use: headings, paragraphs, lists, bold,
 * code, links. It makes elements, never HTML text, so nothing in a text can
 * become script. Headings begin below the page's own.
 */
export function Markdown({ text }: { text: string }) {
  const out: ComponentChildren[] = [];
  const lines = text.replace(/\r/g, '').split('\n');
  for (let i = 0; i < lines.length; ) {
    const line = lines[i]!;
    const heading = /^(#{1,4})\s+(.*)/.exec(line);
    const bullet = /^\s*(?:[-*]|(\d+)\.)\s+/;
    if (!line.trim()) {
      i++;
    } else if (heading) {
      const H = (['h2', 'h3', 'h4', 'h5'] as const)[heading[1]!.length - 1]!;
      out.push(<H>{inline(heading[2]!)}</H>);
      i++;
    } else if (/^\s*\|.*\|\s*$/.test(line)) {
      const rows: string[][] = [];
      for (; i < lines.length && /^\s*\|.*\|\s*$/.test(lines[i]!); i++) {
        const cells = lines[i]!.trim().slice(1, -1).split('|').map((c) => c.trim());
        if (!cells.every((c) => /^:?-+:?$/.test(c))) rows.push(cells);
      }
      const [head = [], ...body] = rows;
      out.push(
        <div class="table-scroll" tabIndex={0} role="group">
          <table>
            <thead><tr>{head.map((c) => <th scope="col">{inline(c)}</th>)}</tr></thead>
            <tbody>{body.map((r) => <tr>{r.map((c) => <td>{inline(c)}</td>)}</tr>)}</tbody>
          </table>
        </div>,
      );
    } else if (bullet.test(line)) {
      const ordered = bullet.exec(line)![1] !== undefined;
      const items: string[] = [];
      for (; i < lines.length && lines[i]!.trim(); i++) {
        if (bullet.test(lines[i]!)) items.push(lines[i]!.replace(bullet, ''));
        else items[items.length - 1] += ' ' + lines[i]!.trim();
      }
      const list = items.map((x) => <li>{inline(x)}</li>);
      out.push(ordered ? <ol>{list}</ol> : <ul>{list}</ul>);
    } else {
      const parts: string[] = [];
      for (; i < lines.length && lines[i]!.trim() && !/^#{1,4}\s/.test(lines[i]!) && !bullet.test(lines[i]!); i++) parts.push(lines[i]!.trim());
      out.push(<p>{inline(parts.join(' '))}</p>);
    }
  }
  return <div class="prose">{out}</div>;
}

/** Bold, code, emphasis and links within a line. */
export function inline(text: string): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  const pattern = /\*\*(.+?)\*\*|`([^`]+)`|\*([^*\s][^*]*)\*|\[([^\]]+)\]\((https?:[^)\s]+)\)/g;
  let at = 0;
  for (let m = pattern.exec(text); m; m = pattern.exec(text)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    if (m[1] !== undefined) out.push(<strong>{m[1]}</strong>);
    else if (m[2] !== undefined) out.push(<code>{m[2]}</code>);
    else if (m[3] !== undefined) out.push(<em>{m[3]}</em>);
    else out.push(<a href={m[5]} rel="noreferrer">{m[4]}</a>);
    at = m.index + m[0].length;
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}
