"""Words and sentence frames of constructed training pages (construct.py).

TERMS are things that a domain talks about, STATEMENTS plain sentences of it, LINKS sentences that argue, by how much
they rest on what stands before. `{t}` and `{u}` stand for terms of the page's domain, `{n}` for a number, `{name}`,
`{place}`, `{day}`, `{month}` for themselves. The Chinese tables are smaller and have no spaces.
"""


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.replace("\n", " ").split(",") if word.strip()]


TERMS = {
    "mathematics": _split("""integral, derivative, matrix, determinant, prime number, polynomial, vector space, continuous
        function, limit, sequence, convergent series, theorem, subset, equation, inequality, triangle, circle, angle, ring,
        field, subgroup, permutation, graph, probability, random variable, expectation, variance, modulus, remainder,
        divisor, root, quotient, coefficient, exponent, logarithm, induction, bijection, kernel, linear map, basis,
        topology, compact set, open set, measure, factorial, binomial coefficient, fraction, denominator, numerator,
        parabola, ellipse, hypotenuse, perimeter, area, proof, lemma, corollary, conjecture, axiom, set, cardinality,
        complex number, real number, integer, gradient, eigenvector, norm, metric, tangent, sine, cosine"""),
    "code": _split("""function, variable, array, pointer, loop, class, method, string, compiler, interpreter, exception,
        thread, mutex, socket, server, client, request, response, database, query, index, table, branch, commit,
        repository, merge, library, package, module, import, dependency, API, endpoint, JSON, parser, buffer, cache, stack,
        heap, queue, hash map, dictionary, iterator, callback, closure, recursion, runtime, memory leak, garbage
        collector, type checker, unit test, debugger, terminal, shell script, environment variable, configuration file,
        log file, container, kernel, process, syntax error, regular expression, boolean, integer overflow, race
        condition, deadlock, struct, enum, interface, template, argument, return value, command line, browser, HTML"""),
    "science": _split("""electron, proton, atom, molecule, photon, energy, momentum, velocity, acceleration, gravity, mass,
        temperature, pressure, entropy, wavelength, frequency, light, planet, star, galaxy, orbit, cell, membrane, protein,
        enzyme, DNA, gene, chromosome, mutation, species, evolution, bacterium, plant, predator, ecosystem, climate, ocean,
        sediment, rock, mineral, magma, crystal, acid, base, ion, salt, oxidation, reaction, catalyst, solvent, isotope,
        radioactive decay, magnetic field, electric charge, quantum state, wave, oscillation, heat, gas, liquid, fossil,
        photosynthesis, respiration, nucleus, neutron, telescope, spectrum, experiment, atmosphere, carbon dioxide"""),
    "engineering": _split("""voltage, current, resistor, capacitor, inductor, transistor, amplifier, motor, gear, bearing,
        shaft, valve, pump, turbine, compressor, boiler, pipe, weld, bolt, torque, load, beam, column, concrete, steel,
        reinforcement, foundation, bridge, truss, deflection, stress, strain, fatigue, tolerance, lathe, milling machine,
        circuit board, sensor, actuator, controller, feedback loop, power supply, transformer, battery, generator,
        heat exchanger, insulation, cable, fuse, relay, microcontroller, antenna, bandwidth, hydraulic cylinder, piston,
        crankshaft, gearbox, lubricant, coolant, cutting tool, casting, conveyor, robot arm, switch, converter, wiring"""),
    "medicine": _split("""patient, symptom, diagnosis, fever, infection, inflammation, antibiotic, vaccine, virus, tumour,
        biopsy, blood pressure, heart rate, artery, vein, lung, liver, kidney, pancreas, insulin, diabetes, hypertension,
        stroke, asthma, pneumonia, fracture, surgery, anaesthesia, dose, tablet, side effect, placebo, clinical trial,
        nausea, headache, chronic pain, allergy, rash, hormone, thyroid, pregnancy, midwife, nurse, physician, ward,
        therapy, rehabilitation, nerve, spinal cord, cartilage, muscle, bone marrow, anaemia, cholesterol, screening,
        mortality, risk factor, contraindication, prescription, injection, depression, sleep, bleeding, swelling"""),
    "law": _split("""contract, clause, party, plaintiff, defendant, court, judge, appeal, statute, regulation, liability,
        damages, negligence, breach, warranty, licence, copyright, patent, trade mark, tenant, landlord, lease, property,
        ownership, possession, offence, penalty, fine, prosecution, evidence, burden of proof, witness, testimony, verdict,
        sentence, jurisdiction, constitution, fundamental right, privacy, consent, data subject, controller, agreement,
        termination, notice, confidentiality, indemnity, arbitration, settlement, inheritance, will, divorce, custody,
        employment law, dismissal, consumer, seller, legislation, paragraph, provision, rights, obligations, article"""),
    "finance": _split("""share, bond, stock market, dividend, interest rate, yield, inflation, currency, exchange rate,
        central bank, loan, mortgage, credit, debt, asset, liability, equity, balance sheet, income statement, cash flow,
        revenue, profit, margin, cost, tax, deduction, depreciation, audit, invoice, budget, savings, pension, fund,
        portfolio, diversification, risk, return, volatility, option, futures, hedge, insurance premium, demand, supply,
        price, market, monopoly, tariff, trade deficit, gross domestic product, unemployment, recession, fiscal policy,
        shareholder, investor, broker, commission, bank account, deposit, capital, valuation, earnings"""),
    "humanities": _split("""empire, king, revolution, treaty, war, peasant, nobility, church, monastery, reformation,
        renaissance, enlightenment, philosopher, ethics, knowledge, free will, metaphysics, argument, novel, poem, sonnet,
        metaphor, narrator, tragedy, comedy, painting, fresco, sculpture, cathedral, architecture, composer, symphony,
        opera, melody, grammar, verb, noun, dialect, syntax, vowel, etymology, manuscript, archive, chronicle, colony,
        slavery, trade route, guild, dynasty, emperor, republic, constitution, religion, ritual, myth, archaeology,
        excavation, pottery, inscription, translation, rhetoric, aesthetics, tradition, identity, society, culture"""),
}
"""Terms of the domains that explain; the other domains have sentences of their own kind only."""

STATEMENTS = {
    "mathematics": [
        "Let {t} be given.", "The {t} is defined for every {u}.", "Solve for x: {n}x + {n} = {n}.", "We write f(x) = x^{n} + {n}x.",
        "The {t} has exactly {n} elements.", "Every {t} is a {u}.", "Find the {t} of the {u}.", "Compute the {t} when n = {n}.",
        "A {t} is called regular if its {u} is not zero.", "Exercise {n}. Show that the {t} is a {u}.",
        "Here \\(\\alpha\\) denotes the {t} and \\(\\beta\\) the {u}.", "The {t} of a {u} is at most {n}.",
    ],
    "code": [
        "The {t} returns a {u}.", "Call the {t} before you open the {u}.", "Install it with `pip install example`.",
        "Use the option --verbose to print every {t}.", "The {t} takes two arguments, a {u} and an optional flag.",
        "It raises ValueError when the {t} is empty.", "Version {n}.{n} fixes a bug in the {t}.", "Run the {t} from the terminal.",
        "I get an error message when my {t} reads the {u}.", "Edit the {t} and restart the {u}.", "The default {t} is {n}.",
        "Note: since version {n} the {t} is deprecated, use the {u} instead.",
    ],
    "science": [
        "The {t} is about {n} times larger than the {u}.", "A {t} consists of several {u}s.", "Scientists observed the {t} in {place}.",
        "The {t} was discovered in 18{n}.", "At {n} degrees the {t} changes into a {u}.", "The {t} lies between the {u} and the surface.",
        "Most of the {t} comes from the {u}.", "We measured the {t} with an error of {n} per cent.", "The unit of {t} is named after {name}.",
        "Each {t} contains {n} per cent of {u}.", "A {t} lives for about {n} years and feeds on small animals.",
    ],
    "engineering": [
        "The {t} is rated for {n} volts.", "Mount the {t} next to the {u} and tighten the screws with {n} Nm.", "The {t} carries {n} kN.",
        "Technical data: {t} {n} mm, {u} {n} kW.", "Check the {t} every {n} months.", "Remove the cover, then disconnect the {t}.",
        "The {t} is made of stainless steel.", "Operating temperature of the {t}: -{n} to {n} °C.", "Replace the {t} if the {u} leaks.",
        "The {t} drives the {u} at {n} revolutions per minute.", "A standard {t} fits the {u}.",
    ],
    "medicine": [
        "The {t} affects {n} of 1000 adults.", "Take {n} mg twice a day.", "Tell your doctor if you have a {t}.", "Common: {t}, {u}, dizziness.",
        "Patients with a {t} should be examined for {u}.", "The {t} lies behind the {u}.", "Treatment consists of {t} and {u}.",
        "The {t} usually disappears within {n} days.", "A {n}-year-old woman presents with {t} and {u}.", "Drink enough water and rest.",
        "The {t} is confirmed by a blood test.", "Do not use this medicine after the expiry date.",
    ],
    "law": [
        "The {t} shall not be assigned without consent.", "Section {n}. The {t} means any {u} under this Act.",
        "The {t} may terminate this Agreement upon {n} days' written notice.", "Whoever violates the {t} shall be liable to a {u}.",
        "({n}) Paragraph {n} applies accordingly to the {t}.", "The court dismissed the {t}.", "The {u} is governed by the laws of {place}.",
        "We process your personal data in accordance with the {t}.", "The {t} is entitled to claim the {u}.",
        "No {t} shall be construed as a waiver of the {u}.", "The claimant sought {t} for {u}.",
    ],
    "finance": [
        "The {t} rose by {n} per cent in {month}.", "Revenue was {n} million dollars, up from {n} million a year earlier.",
        "The {t} is recorded under {u}.", "Investors hold the {t} for {n} years.", "The {t} pays {n} per cent a year.",
        "The company reported a {t} of {n} million.", "Debit the {t}, credit the {u}.", "Open a {t} and pay in {n} euros a month.",
        "The {t} closed at {n}.{n} points.", "A {t} is the part of the {u} that belongs to the owners.",
    ],
    "humanities": [
        "The {t} began in 1{n}0 and ended in 1{n}9.", "{name} was born in {place} in 17{n}.", "The {t} stands in {place}.",
        "The word {t} comes from the Latin for {u}.", "In 16{n} the {t} was dissolved.", "{name} wrote {n} books about the {t}.",
        "The {t} shows a {u} in blue and gold.", "The {t} is divided into {n} chapters.", "The {u} of {place} dates from the fifteenth century.",
        "It is the oldest {t} in {place}.", "His later works deal with {t} and {u}.",
    ],
}

LINKS = {
    2: [
        "This is because the {t} depends on the {u}.", "For example, a {t} can be replaced by a {u}.",
        "In other words, the {t} is what makes the {u} work.", "That is why the {t} matters.",
        "The {t} differs from the {u} in one respect.", "This means that the {t} does not change.",
    ],
    3: [
        "The reason is simple: if the {t} grows, the {u} has to follow.", "But this is not the whole story, since the {t} also acts on the {u}.",
        "As a result the {t} becomes smaller, which in turn affects the {u}.", "Why does the {t} behave like this? Think of a {u}.",
        "When the {t} is removed, the {u} no longer holds it back, so it moves.", "However, the {t} only explains part of the {u}.",
        "The difference between a {t} and a {u} shows when both are changed at once.", "Therefore it is better to look at the {t} first.",
        "A common mistake is to confuse the {t} with the {u}.", "You can check this with a {t}: the {u} stays the same.",
    ],
    4: [
        "Suppose that the {t} were independent of the {u}.", "Then the {t} would equal the {u}, and hence there would be nothing left to explain.",
        "It follows that the {t} cannot exceed the {u}.", "Since the {t} is fixed, only the {u} can vary, so we obtain {n} for the first case.",
        "Substituting this into the expression for the {t} gives {n} = {n} + {n}.", "This contradicts the assumption about the {u}.",
        "Consequently, either the {t} or the {u} must be zero.", "By the same argument the {t} is bounded, and we conclude that the {u} exists.",
        "Dividing both sides by the {t}, the {u} cancels.", "Assume first that the {t} is smaller than the {u}; the other case is similar.",
        "Now if there are {n} of them, at least {n} must share a {t}, because only {n} are possible.",
        "We must show two things: that the {t} suffices, and that the {u} is needed.", "Thus the claim holds for the {t}, and therefore for the {u}.",
        "The converse fails, as a simple {t} shows.", "Taken together, this gives about {n} instead of {n}, nearly twice as much.",
        "Note where we used the {t}: without it, the step from the {u} would not be allowed.",
    ],
}

NEWS = [
    "{place}, {day} - The government said on {day} that it would spend {n} million on schools.", "Police said {n} people were injured.",
    "\"We are very pleased with the result,\" said spokeswoman {name}.", "The vote was held on {day} evening.", "The mayor told reporters that work would begin in {month}.",
    "A spokesman declined to comment.", "The team beat its rivals {n}-{n} on {day} night.", "Coach {name} praised the players after the match.",
    "The opposition called for the president to resign.", "Officials announced on {day} that the airport would reopen.", "Shares fell {n} percent after the announcement.",
    "According to the ministry, {n} homes were damaged by the flood.", "Residents were asked to leave the area.", "The trial is expected to begin in {month}.",
    "It was the third accident this year, a witness said.", "Talks between the two sides continued in {place}.", "The minister will meet her counterpart next week.",
    "The company said it planned to cut {n} jobs.", "Firefighters brought the blaze under control by {day} morning.", "Turnout was {n} percent, the electoral commission reported.",
    "Striker {name} scored in the {n}th minute.", "Scientists at the agency announced the finding at a news conference.", "The prime minister thanked the emergency services.",
]  # fmt: skip
FICTION = [
    "She opened the door and looked into the dark room.", "\"I don't know,\" he whispered.", "\"You should not have come,\" said {name}.",
    "The rain had stopped, and the street smelled of wet leaves.", "He had not slept for three nights.", "Nobody answered.",
    "She remembered her grandmother's hands.", "\"Where is he?\" asked {name}, and her voice trembled.", "The old man sat down by the fire and closed his eyes.",
    "For a long time they walked without a word.", "Then something moved behind the curtain.", "He laughed, but his eyes did not.",
    "The horse raised its head and listened.", "She folded the letter and put it in her pocket.", "Far away a bell rang, and he thought of home.",
    "\"Give me your hand,\" she said.", "The moon hung over the village like a lantern.", "He knew then that he would never return.",
    "{name} turned the key and held her breath.", "The dragon opened one golden eye.", "Once upon a time there lived a poor miller who had a daughter.",
    "The child looked at him as if he had come from the moon.", "Dust lay on everything, on the piano, the chairs, the silent clock.",
    "They had been friends, a long time ago, before the war.", "He wanted to say something, but the words would not come.",
]  # fmt: skip
ADVERTISEMENT = [
    "Buy now and save up to {n}%!", "Free shipping on all orders over ${n}.", "Only {n} left in stock, order soon.", "Best price guaranteed!",
    "Our customers love it: 5 stars!", "Click here to get your free quote today.", "Sign up now and receive {n}% off your first order.",
    "Limited time offer. Add to cart.", "Don't miss this amazing deal!", "Thousands of happy customers can't be wrong.", "Call us today for a free consultation.",
    "Shop the new collection now.", "Money-back guarantee within {n} days.", "The perfect gift for the whole family.", "cheap {item} online best {item} discount {item} sale",
    "Book your {item} now and enjoy a special discount.", "Was ${n}, now only ${n}!", "Try it risk free for {n} days, cancel anytime.",
    "Get instant access to {n} premium {item}s.", "Use the code SAVE{n} at checkout.", "Welcome bonus of {n}% for new players, play now!", "Lose weight fast with our all-natural {item}.",
    "Our award-winning {item} makes your life easier.", "Compare the best {item} reviews and prices.", "Plans from ${n} per month, no contract.", "In stock. Ships within 24 hours.",
    "Contact us for wholesale {item} at factory price.", "Subscribe to our newsletter for exclusive offers.", "Your satisfaction is our priority.", "Enjoy a relaxing stay in our comfortable rooms with breakfast buffet.",
]  # fmt: skip
ITEMS = _split("""sofa, watch, phone case, mattress, vacuum cleaner, insurance, loan, handbag, running shoe, perfume, hotel room,
    holiday, headphone, laptop, kitchen knife, dress, ring, coffee machine, slot game, supplement, cream, hosting plan, course,
    tool set, lamp, carpet, camera, tent, bike, toy, flight, apartment, car rental, printer, software licence, gift card""")  # fmt: skip
JOB_POSTING = [
    "We are looking for a {role} to join our team in {place}.", "Requirements: at least {n} years of experience.", "Your responsibilities include planning and reporting.",
    "We offer a competitive salary, health insurance and {n} days of paid vacation.", "Please send your CV and cover letter to our HR department.", "Full-time position, start immediately.",
    "A degree in a related field is required.", "We are an equal opportunity employer.", "Salary: ${n},000 per year.", "Fluency in English is a must, German is an advantage.",
    "Apply now by {month} {n}.", "You are a team player with excellent communication skills.", "Flexible working hours and home office are possible.", "Job type: permanent, {n} hours a week.",
    "The successful candidate will report to the head of department.", "Benefits: pension scheme, training budget, free lunch.", "We are hiring: {role} (m/f/d).", "Your profile: completed training as a {role}.",
    "About us: a growing company with {n} employees.", "Interviews will take place in {month}.", "Experience as a {role} is preferred.", "Shift work, weekends off, driving licence needed.",
]  # fmt: skip
ROLES = _split("""software engineer, nurse, teacher, accountant, sales manager, truck driver, warehouse worker, cook, receptionist,
    data analyst, electrician, project manager, lawyer, research assistant, postdoctoral researcher, waiter, mechanic, designer,
    marketing specialist, pharmacist, security guard, cleaner, bank clerk, civil engineer, social worker, physician, intern""")  # fmt: skip
GENERAL = {
    "recipe": [
        "Preheat the oven to {n} degrees.", "Chop the onions and fry them in butter.", "Add {n} g of flour and two eggs.", "Season with salt and pepper.",
        "Ingredients: {n} g sugar, 2 cups milk, a pinch of salt.", "Stir well and let it simmer for {n} minutes.", "Serve hot with bread and a green salad.", "Bake until golden brown.",
        "Peel the potatoes and cut them into cubes.", "Sprinkle with cheese and herbs.", "Leave the dough to rise in a warm place.",
    ],
    "diary": [
        "We arrived in {place} late in the evening and went straight to bed.", "The weather was lovely, so we walked along the beach.", "My sister called me yesterday.",
        "The food was great but the queue was far too long!", "I have no idea why it took us so long.", "Next time we will take the train.", "The kids were tired and so were we.",
        "I love this place, will come back for sure.", "Today was a good day.", "Anyway, here are some photos of our trip.", "My dog ate my shoes again, lol.",
    ],
    "chat": [
        "Does anyone know a good dentist in {place}?", "Same here, no idea either.", "Thanks for the tip, I will try it!", "lol that's exactly what my husband said", "Welcome to the forum, {name}.",
        "I disagree, the old one was better.", "Posted by {name} on {day}, {n} replies", "has anybody tried this with cats?", "Mine broke after a year, just my luck.", "Good luck and keep us posted :)",
    ],
    "household": [
        "Wash the curtains at {n} degrees.", "Water the roses in the evening and cut off dry leaves.", "First clean the window with warm water, then wipe it dry.", "A little vinegar removes the stain.",
        "Plant the bulbs in {month}, about {n} cm deep.", "Put a towel under the door.", "If the drawer sticks, rub it with a candle.", "Empty the bucket before it is full.", "Store the apples in a cool cellar.",
    ],
    "notice": [
        "Opening hours: Monday to Friday {n}.00 - 1{n}.00.", "Closed on Sundays and holidays.", "Admission {n} euros, children free.", "Meeting point: main entrance, {n} am.", "Saturday {n}: flea market, town square.",
        "Please bring your own cup.", "Bus {n} stops in front of the library.", "The car park is closed until {month}.", "Home | About | Contact | Login", "Copyright 20{n}. All rights reserved. Privacy | Cookies | Imprint",
        "Previous 1 2 3 4 5 Next", "Posted in Uncategorized | Leave a comment", "Tickets at the counter or by phone.", "{day}: choir practice, {n} pm, church hall.",
    ],
}  # fmt: skip
NAMES = _split("Anna, Boris, Carla, David, Elif, Farid, Greta, Hiro, Ivan, Julia, Karim, Linh, Maria, Nils, Olga, Peter, Rosa, Sam, Tara")
PLACES = _split("Lisbon, Vienna, Nairobi, Osaka, Toronto, Oslo, Lyon, Delhi, Boston, Prague, Lagos, Quito, Seoul, Glasgow, Munich")
DAYS = _split("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
MONTHS = _split("January, February, March, April, May, June, July, August, September, October, November, December")

CHINESE_TERMS = {
    "mathematics": "函数 导数 积分 矩阵 向量 方程 不等式 整数 质数 三角形 概率 数列 极限 集合 定理 多项式 余数 圆 面积 根",
    "code": "变量 函数 线程 数据库 数组 指针 接口 对象 循环 内存 服务器 索引 类 参数 返回值 异常 代码 缓存 字符串 编译器",
    "science": "电子 原子 分子 能量 温度 压力 细胞 蛋白质 基因 行星 光 重力 速度 化学反应 植物 动物 海洋 岩石 波 质量",
    "engineering": "电压 电流 电阻 电机 齿轮 轴承 阀门 水泵 混凝土 钢筋 桥梁 电缆 传感器 压缩机 焊接 功率 线路 散热器 继电器",
    "medicine": "患者 症状 感染 抗生素 病毒 血压 心脏 肝脏 手术 药物 剂量 糖尿病 炎症 疫苗 疼痛 发热 副作用 检查 医生 治疗",
    "law": "合同 当事人 法院 赔偿 条款 权利 义务 违约 诉讼 证据 租赁 责任 法律 规定 劳动者 用人单位 判决 仲裁 消费者 罚款",
    "finance": "利率 股票 债券 贷款 通货膨胀 汇率 资产 负债 利润 成本 税收 基金 风险 收益 市场 价格 银行 指数 现金流 投资者",
    "humanities": "朝代 皇帝 诗人 文学 哲学 历史 制度 语言 绘画 小说 战争 宗教 文化 思想 史料 音乐 词 戏曲 士大夫 考古",
}
CHINESE_STATEMENTS = [
    "{t}的定义如下。", "{t}与{u}有关。", "常见的{t}有{n}种。", "{t}是{u}的一部分。", "{t}约为{n}。", "{t}包括{u}等。", "注意{t}不得超过{n}。", "下表列出了{t}。", "第{n}条，{t}应当符合{u}的要求。",
]  # fmt: skip
CHINESE_LINKS = {
    2: ["这是因为{t}取决于{u}。", "例如，{t}可以看作{u}。", "也就是说，{t}不变。"],
    3: ["为什么{t}会影响{u}？原因在于两者相互作用。", "但是，{t}增大时{u}反而减小。", "因此应当先考虑{t}，再考虑{u}。", "关键在于{t}，而不是{u}。"],
    4: ["假设{t}不成立，那么{u}等于{n}。", "由此可得{t}小于{u}，于是矛盾。", "所以{t}必然等于{u}，证毕。", "代入得{n} + {n} = {n}，两边消去{t}。", "首先，{t}满足条件；其次，{u}也满足条件；因此结论成立。", "设{t}为 x，则{u}为 {n}x。"],
}  # fmt: skip
CHINESE_PLAIN = {
    "news": "本报讯，昨日上午市政府召开会议。 记者从有关部门获悉，工程将于年底完工。 据介绍，客流比去年增加百分之{n}。 市民李先生说：“方便多了。” 昨晚主队以{n}比{n}获胜。 警方表示，事故原因正在调查。 发言人表示，双方将继续谈判。 比赛将于周日举行。",
    "fiction": "他推开门，屋里没有人。 她低下头，没有说话。 “你还记得我吗？”他问。 雨下了一整夜。 老人笑了笑，眼里含着泪。 月光照在河面上。 少年拔出剑，冷冷地看着对方。 她忽然想起小时候的事。 “走吧。”她说。",
    "advertisement": "限时优惠，立即购买！ 全国包邮，七天无理由退换。 加微信咨询，送好礼！ 原价{n}元，现价{n}元。 正品保证，假一赔十。 点击下载，领取新手礼包。 名额有限，先到先得！ 厂家直销，量大从优。 免费试用，专业团队，诚信服务。 好评如潮，已售{n}万件。",
    "job_posting": "招聘销售经理{n}名。 任职要求：本科以上学历，{n}年以上工作经验。 薪资待遇：月薪{n}000元，五险一金。 简历请发送至邮箱。 岗位职责：负责日常管理工作。 工作地点：上海。 包吃住，带薪年假，年终奖。 有相关经验者优先。 应聘者请携带身份证面试。",
    "general": "鸡蛋打散，加少许盐。 锅里放油，大火翻炒。 周末带孩子去公园玩。 今天天气不错。 味道一般，下次不来了。 楼主好人，谢谢分享。 营业时间：上午九点至下午五点。 把衣服叠好放进箱子里。 晚上和朋友一起吃火锅。 土豆去皮切块，煮二十分钟。",
}  # fmt: skip
