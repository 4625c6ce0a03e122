#!/usr/bin/env python3
"""Times filestore beside other S3 clients, interleaved, on servers that "run" has started.

It installs nothing, and needs the standard library only. Every figure is one of whole processes,
from start to end. What they did is verified outside the clock.
"""
import argparse
import base64
import dataclasses
import datetime
import filecmp
import hashlib
import hmac
import http.client
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import xml.etree.ElementTree as ET

MIB = 1 << 20
REGION, ACCESS, SECRET = 'us-east-1', 'benchkey', 'benchsecret'
BIG_ID = 'bigbigbigbigbig0'  # nulls3 and nulldynamo know a large file by "big" in its id


@dataclasses.dataclass
class Row:
    """One table of the result. A goal is (figure, peer or "best", factor) or ("rss", None, MiB)."""
    server: str
    work: str
    title: str
    goals: tuple = ()
    extra: bool = False  # only where it is asked for


ROWS = {
    'up-big': Row('big', 'up_big', '{big} up, versitygw on tmpfs',
                  (('wall', 'mc', 0.6), ('wall', 's5cmd', 0.35), ('cpu', 's5cmd', 0.4), ('rss', None, 64))),
    'down-big': Row('big', 'down_big', '{big} down, versitygw on tmpfs', (('wall', 's5cmd', 1.0),)),
    'up-tls': Row('tls', 'up_big', '{big} up over TLS, null server', (('wall', 'mc', 0.9),)),
    'up-wan': Row('wan', 'up_big', '{big} up, null server, 20 ms and 90 MiB/s a connection', (('wall', 'best', 0.3),)),
    'down-wan': Row('wan', 'down_big', '{big} down, null server, 20 ms and 90 MiB/s a connection', (('wall', 'best', 0.4),)),
    'up-many': Row('small', 'up_many', '{many} up, versitygw on tmpfs', (('wall', 's5cmd', 1.2),)),
    'down-many': Row('small', 'down_many', '{many} down, versitygw on tmpfs', (('wall', 's5cmd', 0.85),)),
    'tiny': Row('small', 'put_tiny', 'one file of 1 KiB up, versitygw on tmpfs', (('wall', 's5cmd', 1.2),)),
    'start': Row('small', 'version', 'start-up: print the version'),
    # The client's part alone, and how it copes with delay.
    'up-null': Row('null', 'up_big', '{big} up, null server', extra=True),
    'down-null': Row('null', 'down_big', '{big} down, null server', extra=True),
    'down-tls': Row('tls', 'down_big', '{big} down over TLS, null server', extra=True),
    'up-many-null': Row('null', 'up_many', '{many} up, null server', extra=True),
    'down-many-null': Row('null', 'down_many', '{many} down, null server', extra=True),
    'up-many-20ms': Row('delay', 'up_many', '{many} up, null server, 20 ms', extra=True),
    'down-many-20ms': Row('delay', 'down_many', '{many} down, null server, 20 ms', extra=True),
}
OBJECTS_GOAL = ('objects', 's5cmd', 0.75)  # of up-many: the objects without their records
BUSY = 0.7  # load that is too much before the bench begins
QUICK_WORKS = ('put_tiny', 'version')  # of milliseconds: five times as many runs, and no memory

# {exe} {endpoint} {bucket} {src} {dst} {tiny} {key} {srcdir} {dstdir} {prefix} (ends in "/"), and what
# makes each peer take a certificate that it does not know. There is no shell: no globbing, no
# pipes; only " < FILE" at the end is understood.
S5CMD = '{exe} --endpoint-url {endpoint} {s5tls} '
RCLONE = '{exe} {rctls} '
TUNED = RCLONE + '--ignore-times '
MC = '{exe} -q {mctls} '
AWS = '{exe} --endpoint-url {endpoint} {awstls} s3 cp --no-progress '
PEERS = {
    's5cmd': ('s5cmd', {
        'up_big': S5CMD + 'cp {src} s3://{bucket}/{key}',
        'down_big': S5CMD + 'cp s3://{bucket}/{key} {dst}',
        'up_many': S5CMD + 'cp {srcdir}/ s3://{bucket}/{prefix}',
        'down_many': S5CMD + 'cp s3://{bucket}/{prefix}* {dstdir}/',
        'put_tiny': S5CMD + 'cp {tiny} s3://{bucket}/{key}',
        'version': '{exe} version',
    }),
    'rclone': ('rclone', {
        'up_big': RCLONE + 'copyto {src} b:{bucket}/{key}',
        'down_big': RCLONE + 'copyto b:{bucket}/{key} {dst}',
        'up_many': RCLONE + 'copy {srcdir} b:{bucket}/{prefix}',
        'down_many': RCLONE + 'copy b:{bucket}/{prefix} {dstdir}',
        'put_tiny': RCLONE + 'copyto {tiny} b:{bucket}/{key}',
        'version': '{exe} version',
    }),
    'rclone-tuned': ('rclone', {
        'up_big': TUNED + '--s3-no-check-bucket --s3-disable-checksum --s3-no-head --s3-use-unsigned-payload=true '
                  '--s3-chunk-size 16M --s3-upload-concurrency 8 copyto {src} b:{bucket}/{key}',
        'down_big': TUNED + '--multi-thread-streams 8 --multi-thread-chunk-size 16M copyto b:{bucket}/{key} {dst}',
        'up_many': RCLONE + '--no-check-dest --s3-no-check-bucket --s3-no-head --s3-use-unsigned-payload=true '
                   '--no-traverse --transfers 64 --checkers 64 copy {srcdir} b:{bucket}/{prefix}',
        'down_many': RCLONE + '--fast-list --transfers 64 --checkers 64 copy b:{bucket}/{prefix} {dstdir}',
    }),
    'mc': ('mc', {
        'up_big': MC + 'cp {src} b/{bucket}/{key}',
        'down_big': MC + 'cp b/{bucket}/{key} {dst}',
        'up_many': MC + 'cp -r {srcdir}/ b/{bucket}/{prefix}',
        'down_many': MC + 'cp -r b/{bucket}/{prefix} {dstdir}/',
        'put_tiny': MC + 'cp {tiny} b/{bucket}/{key}',
        'version': '{exe} --version',
    }),
    'aws-cli': ('aws', {
        'up_big': AWS + '{src} s3://{bucket}/{key}',
        'down_big': AWS + 's3://{bucket}/{key} {dst}',
        'up_many': AWS + '--recursive {srcdir} s3://{bucket}/{prefix}',
        'down_many': AWS + '--recursive s3://{bucket}/{prefix} {dstdir}',
        'put_tiny': AWS + '{tiny} s3://{bucket}/{key}',
        'version': '{exe} --version',
    }),
}
PEERS['aws-crt'] = ('aws', {w: c for w, c in PEERS['aws-cli'][1].items() if w != 'version'})
CANDIDATE = {
    'up_big': '{exe} upload -q {src}',
    'down_big': '{exe} download -q -o {dst} {id}',
    'up_many': '{exe} upload -q -r {srcdir}',
    'down_many': '{exe} download -q -d {dstdir} - < {ids}',
    'put_tiny': '{exe} upload -q {tiny}',
    'version': '{exe} version',
}
# Not tools, but limits and parts: "raw HTTP" moves the bytes and does nothing else.
RAW = {
    'up_big': '{exe} {sign} {ca} -n {connections} put {src} {endpoint}/{bucket}/{key}',
    'down_big': '{exe} {sign} {ca} -n {connections} get {endpoint}/{bucket}/{key}',
    'up_many': '{exe} {sign} {ca} -n 64 putdir {srcdir} {endpoint}/{bucket}/{prefix}',
}
OBJECTS = {'up_many': '{exe} -endpoint {endpoint} -bucket {bucket} {srcdir}'}
RAW_NAME, OBJECTS_NAME = 'raw HTTP', 'filestore, objects only'


@dataclasses.dataclass
class Tool:
    name: str
    exe: str
    commands: dict
    kind: str = 'peer'  # or candidate, raw, objects
    env: dict = dataclasses.field(default_factory=dict)

    @property
    def bucket(self):
        # filestore puts objects at the root of a bucket, so it gets one of its own.
        return f'bench-{"".join(c if c.isalnum() else "-" for c in self.name)}'.lower() if self.kind in ('candidate', 'objects') else 'bench'

    @property
    def prefix(self):
        return '' if self.kind in ('candidate', 'objects') else self.name.replace(' ', '-') + '/'


@dataclasses.dataclass
class Server:
    name: str
    endpoint: str
    pid: int
    dynamodb: str

    @property
    def null(self):
        return self.name not in ('big', 'small')

    @property
    def host(self):
        return urllib.parse.urlsplit(self.endpoint).netloc

    @property
    def tls(self):
        return self.endpoint.startswith('https:')

    def cpu(self):
        """CPU time of the server so far, in seconds."""
        with open(f'/proc/{self.pid}/stat') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class S3:
    """Enough of S3 to make a bucket, empty a prefix and look at an object."""

    def __init__(self, endpoint):
        self.host = urllib.parse.urlsplit(endpoint).netloc

    def open(self, method, path, query='', body=b'', headers=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        day, stamp = now.strftime('%Y%m%d'), now.strftime('%Y%m%dT%H%M%SZ')
        digest = hashlib.sha256(body).hexdigest()
        headers = {'host': self.host, 'x-amz-date': stamp, 'x-amz-content-sha256': digest, **(headers or {})}
        names, path = ';'.join(sorted(headers)), urllib.parse.quote(path)
        lines = ''.join(f'{k}:{headers[k]}\n' for k in sorted(headers))
        canonical = '\n'.join([method, path, query, lines, names, digest])
        scope = f'{day}/{REGION}/s3/aws4_request'
        key = ('AWS4' + SECRET).encode()
        for step in (day, REGION, 's3', 'aws4_request'):
            key = hmac.new(key, step.encode(), hashlib.sha256).digest()
        text = f'AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}'
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers['Authorization'] = f'AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={signature}'
        conn = http.client.HTTPConnection(self.host)
        conn.request(method, path + ('?' + query if query else ''), body, headers)
        return conn.getresponse()

    def call(self, method, path, query='', body=b'', headers=None, allow=()):
        resp = self.open(method, path, query, body, headers)
        data = resp.read()
        if resp.status >= 300 and resp.status not in allow:
            raise SystemExit(f'{method} {path}: {resp.status} {data[:300]}')
        return data

    def keys(self, bucket, prefix):
        token, keys = None, []
        while True:
            query = {'list-type': '2', 'prefix': prefix} | ({'continuation-token': token} if token else {})
            data = self.call('GET', '/' + bucket, '&'.join(
                f'{urllib.parse.quote(k, safe="")}={urllib.parse.quote(v, safe="")}' for k, v in sorted(query.items())))
            root = ET.fromstring(data)
            space = root.tag.split('}')[0] + '}' if '}' in root.tag else ''
            keys += [c.find(space + 'Key').text for c in root.findall(space + 'Contents')]
            token = root.findtext(space + 'NextContinuationToken')
            if not token:
                return keys

    def clear(self, bucket, prefix):
        keys = self.keys(bucket, prefix)
        for i in range(0, len(keys), 1000):
            body = ('<Delete><Quiet>true</Quiet>' + ''.join(
                f'<Object><Key>{k}</Key></Object>' for k in keys[i:i + 1000]) + '</Delete>').encode()
            digest = base64.b64encode(hashlib.md5(body).digest()).decode()
            self.call('POST', '/' + bucket, 'delete=', body, {'content-md5': digest})

    def equals(self, bucket, key, path):
        """Whether the object holds what the file does."""
        resp = self.open('GET', f'/{bucket}/{key}')
        with open(path, 'rb') as f:
            while True:
                data = resp.read(4 * MIB)
                if data != f.read(len(data) or 1):
                    return False
                if not data:
                    return resp.status == 200


class Bench:
    def __init__(self, args):
        self.args = args
        self.big_bytes = (32 if args.quick else 1024) * MIB
        self.many = 50 if args.quick else 2000
        self.work, self.small = os.path.abspath(args.work), os.path.abspath(args.work_small)
        self.src, self.dst = os.path.join(self.work, 'big.bin'), os.path.join(self.work, 'download.bin')
        self.tiny, self.srcdir, self.dstdir, self.ids, self.home = (
            os.path.join(self.small, n) for n in ('tiny.bin', 'src', 'dst', 'ids', 'home'))
        self.servers = {}
        for text in args.server:
            name, rest = text.split('=', 1)
            endpoint, pid, dynamodb = rest.split(',')
            self.servers[name] = Server(name, endpoint, int(pid), dynamodb)
        self.make_sources()
        self.log = open(args.log, 'wb', buffering=0)
        self.timer = os.access('/usr/bin/time', os.X_OK)
        self.tools = self.find_tools()
        self.downloads = {}  # by candidate: the ids that it is to download
        self.results = []

    def size(self, text):
        big = f'{self.big_bytes // MIB} MiB' if self.big_bytes < 1024 * MIB else f'{self.big_bytes / 1024 / MIB:g} GiB'
        return text.format(big=big, many=f'{self.many:,} x 4 KiB')

    def make_sources(self):
        for d in (self.work, self.small, self.home):
            os.makedirs(d, exist_ok=True)
        with open(self.tiny, 'wb') as f:
            f.write(os.urandom(1024))
        if sum(len(files) for _, _, files in os.walk(self.srcdir)) != self.many:
            shutil.rmtree(self.srcdir, ignore_errors=True)
            for i in range(self.many):
                d = f'{self.srcdir}/d{i % 20:02d}'
                os.makedirs(d, exist_ok=True)
                with open(f'{d}/f{i:05d}.bin', 'wb') as f:
                    f.write(os.urandom(4096))

    def find_tools(self):
        tools = []
        wanted = None if self.args.peers == 'all' else self.args.peers.split(',')
        for name, (exe, commands) in PEERS.items():
            if wanted is not None and name not in wanted:
                continue
            path = self.find_exe(name, exe)
            if path:
                tools.append(Tool(name, path, commands))
            elif wanted is not None or name != 'aws-crt':
                print(f'(left out: {name}, not found)')
        for text in self.args.candidate:
            name, path = text.split('=', 1)
            tools.append(Tool(name, os.path.abspath(path), CANDIDATE, 'candidate'))
        tools.append(Tool(OBJECTS_NAME, os.path.join(self.args.bin, 'objects'), OBJECTS, 'objects'))
        tools.append(Tool(RAW_NAME, os.path.join(self.args.bin, 'rawhttp'), RAW, 'raw'))
        return tools

    def find_exe(self, name, exe):
        found = []
        for d in self.args.path.split(':'):
            path = os.path.join(d, exe)
            if os.access(path, os.X_OK) and path not in found:
                found.append(path)
        if exe != 'aws':
            return found[0] if found else None
        # Version 2 where there is one; it alone has the transfer client of aws-crt. That client knows
        # no port in an endpoint.
        for path in found:
            if subprocess.run([path, '--version'], capture_output=True, text=True).stdout.startswith('aws-cli/2.'):
                return path if name != 'aws-crt' or self.args.standard_ports else None
        return found[0] if found and name != 'aws-crt' else None

    def environment(self, tool, server):
        """A clean environment: no configuration of the user's reaches a tool."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(('AWS_', 'FILESTORE_', 'RCLONE_', 'MC_', 'S3_'))}
        env.update(
            HOME=self.home, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_REGION=REGION,
            AWS_DEFAULT_REGION=REGION, AWS_EC2_METADATA_DISABLED='true', AWS_PAGER='',
            RCLONE_CONFIG='/dev/null', RCLONE_CONFIG_B_TYPE='s3', RCLONE_CONFIG_B_PROVIDER='Other',
            RCLONE_CONFIG_B_ENDPOINT=server.endpoint, RCLONE_CONFIG_B_REGION=REGION,
            RCLONE_CONFIG_B_ACCESS_KEY_ID=ACCESS, RCLONE_CONFIG_B_SECRET_ACCESS_KEY=SECRET,
            MC_HOST_b=server.endpoint.replace('://', f'://{ACCESS}:{SECRET}@'))
        for name in ('XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_DATA_HOME', 'XDG_CACHE_HOME'):
            env.pop(name, None)
        if tool.name == 'aws-crt':
            path = os.path.join(self.home, 'aws-crt')
            with open(path, 'w') as f:
                f.write('[default]\ns3 =\n  preferred_transfer_client = crt\n')
            env['AWS_CONFIG_FILE'] = path
        if tool.kind in ('candidate', 'objects'):
            env.update(FILESTORE_BUCKET=tool.bucket, AWS_ENDPOINT_URL_S3=server.endpoint, AWS_ENDPOINT_URL_DYNAMODB=server.dynamodb)
            if server.tls:
                env['AWS_CA_BUNDLE'] = self.args.ca
        return env

    def fill(self, tool, server, template, key, prefix, object_id=''):
        return template.format(
            exe=tool.exe, endpoint=server.endpoint, bucket=tool.bucket, src=self.src, dst=self.dst, tiny=self.tiny,
            srcdir=self.srcdir, dstdir=self.dstdir, key=key, prefix=prefix, id=object_id, ids=self.ids,
            connections=64 if server.name == 'wan' else 8, sign='' if server.null else '-sign',
            ca=f'-ca {self.args.ca}' if server.tls else '',
            **{k: (v if server.tls else '') for k, v in
               {'s5tls': '--no-verify-ssl', 'rctls': '--no-check-certificate', 'mctls': '--insecure', 'awstls': '--no-verify-ssl'}.items()})

    def execute(self, command, env, timer=False):
        """Runs a command and measures it. Its memory is GNU time's: what this process would be told
        counts this process too."""
        command, _, stdin = command.partition(' < ')
        argv, rss_file = shlex.split(command), None
        if timer:
            rss_file = tempfile.NamedTemporaryFile('r', dir=self.small)
            argv = ['/usr/bin/time', '-q', '-f', '%M', '-o', rss_file.name] + argv
        self.log.write(f'\n$ {command}\n'.encode())
        with open(stdin or os.devnull) as f:
            start = time.perf_counter()
            p = subprocess.Popen(argv, env=env, stdin=f, stdout=self.log, stderr=self.log, cwd=self.small)
            _, status, usage = os.wait4(p.pid, 0)
            wall = time.perf_counter() - start
        p.returncode = os.waitstatus_to_exitcode(status)
        run = {'wall': wall, 'cpu': usage.ru_utime + usage.ru_stime, 'status': p.returncode}
        if rss_file:
            with rss_file:
                text = rss_file.read().split()
                if text:
                    run['rss'] = int(text[-1]) / 1024
        return run

    def prepare(self, tool, server, work, shared):
        """Puts what is to be downloaded where the tool expects it; returns False where that failed."""
        if work not in ('down_big', 'down_many'):
            return True
        if tool.kind == 'candidate':
            # It downloads what it knows: what it has uploaded and stored itself. Null servers know all.
            if server.null:
                self.downloads[tool.name] = [BIG_ID] if work == 'down_big' else [f'file{i:012d}' for i in range(self.many)]
                return True
            argv = [tool.exe, 'upload', '-q', '--store', '-r', self.src if work == 'down_big' else self.srcdir]
            done = subprocess.run(argv, env=self.environment(tool, server), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=self.log, text=True)
            self.downloads[tool.name] = done.stdout.split()
            return done.returncode == 0
        if not server.null and work not in shared:
            # The first of the others uploads for all of them.
            up = {'down_big': 'up_big', 'down_many': 'up_many'}[work]
            command = self.fill(tool, server, tool.commands[up], 'shared/big.bin', 'shared/many/')
            if self.execute(command, self.environment(tool, server))['status']:
                return False
            shared.add(work)
        return True

    def one_run(self, tool, server, work, first):
        prefix = 'shared/' if work.startswith('down_') else tool.prefix
        key, many = prefix + ('tiny.bin' if work == 'put_tiny' else 'big.bin'), prefix + 'many/'
        ids = self.downloads.get(tool.name) or ['']
        with open(self.ids, 'w') as f:
            f.write('\n'.join(ids) + '\n')
        if os.path.exists(self.dst):
            os.unlink(self.dst)
        if work == 'down_many':
            shutil.rmtree(self.dstdir, ignore_errors=True)
            os.makedirs(self.dstdir)
        s3 = None if server.null else S3(server.endpoint)
        uploads = work in ('up_big', 'up_many', 'put_tiny')
        if s3 and uploads:
            s3.clear(tool.bucket, tool.prefix)
        time.sleep(0 if work == 'version' else self.args.settle)
        if work in ('up_big', 'down_big'):
            self.warm_up()  # last, since what is free is handed back within two seconds
        env = self.environment(tool, server)
        command = self.fill(tool, server, tool.commands[work], key, many, ids[0])
        before = server.cpu()
        run = self.execute(command, env, self.timer and work not in QUICK_WORKS)
        run['server'] = server.cpu() - before
        if run['status'] == 0:
            wrong = self.verify(tool, server, s3, work, first)
            if wrong:
                run['status'] = wrong
        if s3 and uploads:
            s3.clear(tool.bucket, tool.prefix)
        if os.path.exists(self.dst):
            os.unlink(self.dst)
        return run

    def warm_up(self):
        """A virtual machine may hand free pages back to its host, and touching them again then costs
        seconds a GiB: every tool meets equally warm memory."""
        zero = bytes(16 * MIB)
        with open(os.path.join(self.work, 'warm-up'), 'wb', buffering=0) as f:
            os.unlink(f.name)
            for _ in range(0 if self.args.quick else self.args.warm_up * 64):
                f.write(zero)

    def verify(self, tool, server, s3, work, first):
        """Returns what is wrong, or None. Null servers keep nothing: of them only the sizes are right."""
        if tool.kind == 'raw' and work == 'down_big':
            return None
        if work == 'down_big':
            if os.path.getsize(self.dst) != self.big_bytes:
                return 'wrong size'
            if first and not filecmp.cmp(self.src, self.dst, shallow=False):
                return 'wrong bytes'
        if work == 'down_many':
            got = {f: os.path.join(d, f) for d, _, files in os.walk(self.dstdir) for f in files}
            if len(got) != self.many:
                return f'{len(got)} files'
            if first and not server.null:
                for d, _, files in os.walk(self.srcdir):
                    for f in files:
                        if not filecmp.cmp(os.path.join(d, f), got.get(f, os.devnull), shallow=False):
                            return f'wrong bytes in {f}'
        if s3 and first and work in ('up_big', 'up_many', 'put_tiny'):
            keys = s3.keys(tool.bucket, tool.prefix)
            if len(keys) != (self.many if work == 'up_many' else 1):
                return f'{len(keys)} keys'
            if work != 'up_many' and not s3.equals(tool.bucket, keys[0], self.src if work == 'up_big' else self.tiny):
                return 'wrong bytes'
        return None

    def row(self, name):
        row = ROWS[name]
        server = self.servers[row.server]
        tools = [t for t in self.tools if row.work in t.commands]
        runs = self.args.runs * (5 if row.work in QUICK_WORKS and not self.args.quick else 1)
        load = os.getloadavg()[0] if not self.results else 0  # later it is the load of the bench itself
        if load > BUSY:
            print(f'(the machine is busy: load {load:.1f})')
        if not server.null:
            for bucket in {t.bucket for t in tools}:
                S3(server.endpoint).call('PUT', '/' + bucket, allow=(409,))
        rows, shared = {}, set()
        for t in tools:
            rows[t.name] = [] if self.prepare(t, server, row.work, shared) else [{'status': 'not prepared'}]
        for r in range(runs):
            for i in range(len(tools)):
                t = tools[(i + r) % len(tools)]
                if all(x['status'] == 0 for x in rows[t.name]):
                    rows[t.name].append(self.one_run(t, server, row.work, r == 0))
        if not server.null:
            for t in tools:
                S3(server.endpoint).clear(t.bucket, '')
        result = {'row': name, 'title': self.size(row.title), 'runs': runs, 'load': load, 'tools': rows}
        self.results.append(result)
        return result


FIGURES = ('wall', 'cpu', 'rss', 'server')


def medians(result):
    """The median of each figure of each tool that never failed."""
    out = {}
    for tool, runs in result['tools'].items():
        if runs and all(r['status'] == 0 for r in runs):
            out[tool] = {k: statistics.median(r[k] for r in runs) for k in FIGURES if all(k in r for r in runs)}
            out[tool]['min'], out[tool]['max'] = min(r['wall'] for r in runs), max(r['wall'] for r in runs)
    return out


def seconds(s):
    return f'{s * 1000:.1f} ms' if s < 0.1 else f'{s:.2f} s'


def table(result, candidates):
    """One row of the bench as a table in Markdown."""
    m, candidate = medians(result), candidates[-1]
    mine = m.get(candidate)
    lines = [['', 'wall', 'from … to', 'CPU', 'memory', 'server CPU', 'ratio, wall', 'ratio, CPU'], ['---'] * 8]
    for tool in sorted(result['tools'], key=lambda t: m.get(t, {'wall': 1e9})['wall']):
        if tool not in m:
            lines.append([tool, f'FAILED: {[r["status"] for r in result["tools"][tool]][-1]}'] + [''] * 6)
            continue
        t = m[tool]
        ratios = [f'{mine[k] / t[k]:.2f}' if mine and t[k] and tool != candidate else '' for k in ('wall', 'cpu')]
        lines.append([
            f'**{tool}**' if tool == candidate else tool, seconds(t['wall']), f'{seconds(t["min"])} … {seconds(t["max"])}',
            seconds(t['cpu']), f'{t["rss"]:.0f} MiB' if 'rss' in t else '', seconds(t['server']) if t['server'] else '', *ratios])
    widths = [max(len(line[i]) for line in lines) for i in range(8)]
    return '\n'.join('| ' + ' | '.join(c.ljust(w) for c, w in zip(line, widths)) + ' |' for line in lines)


def goals(result, candidates):
    """Each goal of a row with what was reached: (goal, reached, met)."""
    m, candidate, out = medians(result), candidates[-1], []
    peers = {t: v for t, v in m.items() if t in PEERS}
    wanted = ROWS[result['row']].goals + ((OBJECTS_GOAL,) if result['row'] == 'up-many' else ())
    for figure, peer, factor in wanted:
        mine = m.get(OBJECTS_NAME if figure == 'objects' else candidate)
        if figure == 'rss':
            if mine and 'rss' in mine:
                out.append((f'memory under {factor} MiB', f'{mine["rss"]:.0f} MiB', mine['rss'] < factor))
            continue
        key = 'wall' if figure == 'objects' else figure
        name = min(peers, key=lambda t: peers[t][key], default=None) if peer == 'best' else peer
        what = {'wall': 'time', 'cpu': 'CPU time', 'objects': 'time of the objects alone'}[figure]
        if mine and name in peers:
            reached = mine[key] / peers[name][key]
            label = f'{name}, the best' if peer == 'best' else name
            out.append((f'{what} at most {factor:g} x {label}', f'{reached:.2f}', reached <= factor))
    return out


def machine():
    model = 'unknown'
    with open('/proc/cpuinfo') as f:
        for line in f:
            if line.startswith('model name'):
                model = line.split(':', 1)[1].strip()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30)
    return f'{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release().split("-")[0]}'


def markdown(bench, versions):
    """The report, as it stands in docs/performance.md."""
    names = [c.split('=', 1)[0] for c in bench.args.candidate]
    out = [f'Measured on {datetime.date.today().isoformat()}: {machine()}; {", ".join(versions)}.', '']
    if bench.results[0]['load'] > BUSY:
        out += [f'**The machine was busy: its load was {bench.results[0]["load"]:.1f} at the beginning.**', '']
    tools = [t for t in bench.tools if any(t.name in medians(r) for r in bench.results)]
    tools.sort(key=lambda t: (t.name != names[-1], t.kind == 'raw', t.kind == 'objects'))
    out += ['| work | ' + ' | '.join(t.name for t in tools) + ' |', '| --- ' * (len(tools) + 1) + '|']
    for r in bench.results:
        m = medians(r)
        out.append(f'| {r["title"]} | ' + ' | '.join(seconds(m[t.name]['wall']) if t.name in m else '' for t in tools) + ' |')
    out.append('')
    reached = [(r['title'], *g) for r in bench.results for g in goals(r, names)]
    if reached:
        out += ['Goals of the transfers:', '', '| work | goal | reached |', '| --- | --- | --- |']
        out += [f'| {title} | {goal} | {value}{"" if met else " (missed)"} |' for title, goal, value, met in reached] + ['']
    for r in bench.results:
        out += [f'### {r["title"]}', '', f'Medians of {r["runs"]} interleaved runs; a ratio is {names[-1]} ÷ tool.', '', table(r, names), '']
    return '\n'.join(out)


def versions(tools):
    """The versions of the peers, from their build information where they are in Go."""
    out = []
    for exe in dict.fromkeys(t.exe for t in tools if t.kind == 'peer'):
        built = subprocess.run(['go', 'version', '-m', exe], capture_output=True, text=True).stdout
        module = next((line.split() for line in built.splitlines() if line.startswith('\tmod\t')), None)
        if module:
            out.append(f'{os.path.basename(exe)} {module[2]}')
        else:
            out.append(subprocess.run([exe, '--version'], capture_output=True, text=True).stdout.split(' Python')[0].strip())
    return out


def put_into(path, report):
    """Puts the report between the marks that a file has for it."""
    with open(path) as f:
        before, begin, rest = re.split(r'(<!-- bench: what [^>]*-->\n)', f.read())
    _, end, after = rest.partition('<!-- bench: end -->')
    with open(path, 'w') as f:
        f.write(before + begin + report + end + after)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--server', action='append', required=True, metavar='NAME=URL,PID,DYNAMODB-URL')
    ap.add_argument('--candidate', action='append', required=True, metavar='NAME=PATH', help='a build of filestore; ratios are those of the last')
    ap.add_argument('--bin', required=True, help='where objects and rawhttp are')
    ap.add_argument('--path', default=os.environ['PATH'], help='where peers are looked for')
    ap.add_argument('--work', required=True, help='directory for the large file and its download')
    ap.add_argument('--work-small', required=True, help='directory for everything else')
    ap.add_argument('--ca', help='certificate of the server that speaks TLS')
    ap.add_argument('--standard-ports', action='store_true', help='the servers are at 80 and 443')
    ap.add_argument('--runs', type=int, default=5)
    ap.add_argument('--only', default='', help='rows, separated by commas: ' + ', '.join(ROWS))
    ap.add_argument('--peers', default='all', help='peers, separated by commas; none; all')
    ap.add_argument('--rows', action='store_true', help='list the rows')
    ap.add_argument('--quick', action='store_true', help='tiny sizes: does the bench work?')
    ap.add_argument('--warm-up', type=int, default=3, help='memory to touch before each large transfer, in GiB')
    ap.add_argument('--settle', type=float, default=0.2, help='seconds of rest before each run')
    ap.add_argument('--into', help='put the report into this file too, between its marks, if nothing failed')
    ap.add_argument('--log', required=True, help='what the tools print')
    ap.add_argument('--json', required=True)
    ap.add_argument('--markdown', required=True)
    if '--rows' in sys.argv:
        for name, row in ROWS.items():
            print(f'{name:<16} {row.title.format(big="1 GiB", many="2,000 x 4 KiB")}{" (only if asked for)" if row.extra else ""}')
        return
    args = ap.parse_args()
    names = [n for n in args.only.split(',') if n] or [n for n, r in ROWS.items() if not r.extra]
    for n in names:
        if n not in ROWS:
            ap.error(f'no row {n!r}; there are {", ".join(ROWS)}')
    bench = Bench(args)
    candidates = [c.split('=', 1)[0] for c in args.candidate]
    failed, peers = False, versions(bench.tools)
    for n in names:
        print(f'\n## {n}: {bench.size(ROWS[n].title)}', flush=True)
        result = bench.row(n)
        print(table(result, candidates), flush=True)
        for goal, reached, met in goals(result, candidates):
            print(f'{"ok    " if met else "MISSED"} {goal}: {reached}', flush=True)
        failed = failed or len(medians(result)) < len(result['tools'])
        with open(args.json, 'w') as f:
            json.dump({'date': datetime.datetime.now().isoformat(timespec='seconds'), 'machine': machine(), 'rows': bench.results}, f, indent=1)
        with open(args.markdown, 'w') as f:
            f.write(markdown(bench, peers))
    if failed:
        kept = f', and {args.into} stays as it was' if args.into else ''
        print(f'\nSomething failed{kept}; what the tools printed is in {args.log}', file=sys.stderr)
        sys.exit(1)
    if args.into:
        put_into(args.into, markdown(bench, peers))


if __name__ == '__main__':
    main()
